// SPDX-License-Identifier: Apache-2.0
#include "vm/advice_map.h"

#include <new>
#include <vector>

#include "base/inject.h"

namespace gm {

advice advice_map::at(page_index page) const {
  if (count_.load(std::memory_order_relaxed) == 0) return {};
  lock_guard guard(lock_);
  auto after = intervals_.upper_bound(page);
  if (after == intervals_.begin()) return {};
  const interval& found = std::prev(after)->second;
  return page < found.end ? found.advice : advice{};
}

status advice_map::update_with(page_range range, void (*change)(advice&, void*), void* argument) try {
  if (range.begin >= range.end) return status::ok;
  if (inject::fails(inject::point::record_memory)) throw std::bad_alloc();
  lock_guard guard(lock_);
  // The new intervals of the neighbourhood are built aside, so that running out of memory changes nothing: what the
  // range overlaps or touches leaves the map as nodes, and comes back cut, changed, merged.
  map fresh;
  auto add = [&fresh](page_index begin, page_index end, const advice& a) {
    if (begin >= end || a == advice{}) return;
    if (!fresh.empty()) {
      interval& last = std::prev(fresh.end())->second;
      if (last.end == begin && last.advice == a) {
        last.end = end;
        return;
      }
    }
    fresh.emplace_hint(fresh.end(), begin, interval{end, a});
  };
  auto changed = [&](advice a) {
    change(a, argument);
    return a;
  };

  auto first = intervals_.lower_bound(range.begin);
  if (first != intervals_.begin() && std::prev(first)->second.end >= range.begin) --first;
  auto last = first;
  page_index done = range.begin;
  for (; last != intervals_.end() && last->first <= range.end; ++last) {
    const page_index begin = last->first;
    const page_index end = last->second.end;
    const advice old = last->second.advice;
    add(begin, std::min(end, range.begin), old);
    const page_index inner_begin = std::max(begin, range.begin);
    const page_index inner_end = std::min(end, range.end);
    if (inner_begin < inner_end) {
      add(done, inner_begin, changed({}));
      add(inner_begin, inner_end, changed(old));
      done = inner_end;
    }
    if (end > range.end) {
      add(done, range.end, changed({}));
      done = range.end;
      add(std::max(begin, range.end), end, old);
    }
  }
  // An interval that begins exactly at range.end was added already, behind the rest of the range.
  if (done < range.end) add(done, range.end, changed({}));
  intervals_.erase(first, last);
  intervals_.merge(fresh);
  count_.store(intervals_.size(), std::memory_order_relaxed);
  return status::ok;
} catch (const std::bad_alloc&) {
  return fail(status::no_memory, "no memory for advice");
}

void advice_map::clear(page_range range) {
  if (count_.load(std::memory_order_relaxed) == 0) return;
  {
    // Whole intervals and cut ends need no memory; only a hole in the middle of one does.
    lock_guard guard(lock_);
    auto it = intervals_.lower_bound(range.begin);
    if (it != intervals_.begin()) {
      auto before = std::prev(it);
      if (before->second.end > range.begin && before->second.end <= range.end) before->second.end = range.begin;
    }
    while (it != intervals_.end() && it->first < range.end) {
      if (it->second.end <= range.end) {
        it = intervals_.erase(it);
      } else {
        auto node = intervals_.extract(it);
        node.key() = range.end;
        intervals_.insert(std::move(node));
        break;
      }
    }
    count_.store(intervals_.size(), std::memory_order_relaxed);
  }
  // What is left is a hole to cut, or nothing.
  (void)update(range, [](advice& a) { a = {}; });
}

std::size_t advice_map::intervals() const {
  lock_guard guard(lock_);
  return intervals_.size();
}

}  // namespace gm
