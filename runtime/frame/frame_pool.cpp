// SPDX-License-Identifier: Apache-2.0
#include "frame/frame_pool.h"

#include <algorithm>

#include <new>

#include "base/check.h"

namespace gm {

status frame_pool::create(std::uint32_t capacity) {
  try {
    slots_.resize(capacity);
  } catch (const std::bad_alloc&) {
    return fail(status::no_memory, "no memory for the records of %u frames", capacity);
  }
  capacity_ = free_ = capacity;
  for (frame_index i = 0; i < capacity; ++i) slots_[i].next = i + 1 < capacity ? i + 1 : no_frame;
  first_free_ = capacity != 0 ? 0 : no_frame;
  return status::ok;
}

std::uint32_t frame_pool::free_frames() const {
  lock_guard guard(lock_);
  return free_;
}

frame_pool::list_number frame_pool::number_of(victim_class which) {
  if (which == victim_class::cold) return cold_list;
  return which == victim_class::kept ? kept_list : normal_list;
}

frame_pool::list_number frame_pool::number_of(frame_list which) {
  if (which == frame_list::streamed) return streamed_list;
  return which == frame_list::protected_ ? protected_list : probation_list;
}

void frame_pool::append_locked(frame_index frame, list_number which) {
  list& to = lists_[which];
  slot& s = slots_[frame];
  s.list = which;
  s.used = ++clock_;
  s.looks = 0;
  ++sizes_[which];
  s.previous = to.newest;
  s.next = no_frame;
  (to.newest != no_frame ? slots_[to.newest].next : to.oldest) = frame;
  to.newest = frame;
}

void frame_pool::remove_locked(frame_index frame) {
  slot& s = slots_[frame];
  list& from = lists_[s.list];
  --sizes_[s.list];
  if (s.chosen) --chosen_;
  s.chosen = false;
  (s.previous != no_frame ? slots_[s.previous].next : from.oldest) = s.next;
  (s.next != no_frame ? slots_[s.next].previous : from.newest) = s.previous;
}

// Used again it is one that has been looked at.
void frame_pool::append_chosen_locked(frame_index frame) {
  append_locked(frame, cold_list);
  slots_[frame].chosen = true;
  slots_[frame].looks = 1;
  ++chosen_;
}

std::uint32_t frame_pool::free_for_faults() const {
  const std::uint32_t free = free_frames();
  return free - std::min(free, kept_.load(std::memory_order_relaxed));
}

bool frame_pool::take(const piece& made, victim_class which, frame_index* frames, bool kept_too) {
  lock_guard guard(lock_);
  if (free_ < made.blocks + (kept_too ? 0 : kept_.load(std::memory_order_relaxed))) return false;
  for (std::uint32_t i = 0; i < made.blocks; ++i) {
    const frame_index frame = first_free_;
    slot& s = slots_[frame];
    first_free_ = s.next;
    s.owner = static_cast<std::uint32_t>(made.first.value) + i;
    s.piece_first = static_cast<std::uint32_t>(made.first.value);
    s.piece_blocks = made.blocks;
    append_locked(frame, number_of(which));
    frames[i] = frame;
  }
  free_ -= made.blocks;
  return true;
}

void frame_pool::give_back(frame_index frame) {
  lock_guard guard(lock_);
  GM_CHECK(frame < capacity_ && slots_[frame].owner != no_block);
  remove_locked(frame);
  slots_[frame] = slot{};
  slots_[frame].next = first_free_;
  first_free_ = frame;
  ++free_;
}

void frame_pool::touch(frame_index frame, victim_class which) { touch(&frame, &which, 1); }

void frame_pool::touch(const frame_index* frames, const victim_class* classes, std::size_t count) {
  lock_guard guard(lock_);
  for (std::size_t i = 0; i < count; ++i) {
    if (slots_[frames[i]].owner == no_block) continue;
    remove_locked(frames[i]);
    append_locked(frames[i], number_of(classes[i]));
  }
}

void frame_pool::used_on_demand(frame_index frame, bool streamed) {
  lock_guard guard(lock_);
  slot& s = slots_[frame];
  if (s.owner == no_block || (s.list != normal_list && !s.chosen)) return;
  const std::uint8_t looks = s.looks;
  remove_locked(frame);
  append_locked(frame, streamed ? streamed_list : probation_list);
  s.looks = looks;
}

frame_counts frame_pool::on_demand() const {
  lock_guard guard(lock_);
  return {sizes_[probation_list], sizes_[protected_list], sizes_[streamed_list], 0};
}

std::size_t frame_pool::owners_on_demand(block_index* owners, std::size_t most) const {
  lock_guard guard(lock_);
  std::size_t count = 0;
  for (const list_number which : {probation_list, protected_list, streamed_list})
    for (frame_index f = lists_[which].oldest; f != no_frame && count < most; f = slots_[f].next)
      owners[count++] = {slots_[f].owner};
  return count;
}

bool frame_pool::at(const frame_place& place, frame_at_place& result) const {
  lock_guard guard(lock_);
  const list& in = lists_[number_of(place.list)];
  frame_index f = place.newest ? in.newest : in.oldest;
  for (std::uint32_t i = 0; i < place.skip && f != no_frame; ++i)
    f = place.newest ? slots_[f].previous : slots_[f].next;
  if (f == no_frame) return false;
  result = {f, {slots_[f].owner}, slots_[f].looks};
  return true;
}

bool frame_pool::is_on_demand_locked(const frame_at_place& there) const {
  const slot& s = slots_[there.frame];
  return s.owner == there.owner.value && s.list >= streamed_list && s.list <= protected_list;
}

void frame_pool::looked_at(const frame_at_place& there) {
  lock_guard guard(lock_);
  slot& s = slots_[there.frame];
  if (is_on_demand_locked(there) && s.looks < 255) ++s.looks;
}

void frame_pool::move_to(const frame_at_place& there, frame_list to, std::uint32_t looks) {
  lock_guard guard(lock_);
  if (!is_on_demand_locked(there)) return;
  remove_locked(there.frame);
  append_locked(there.frame, number_of(to));
  slots_[there.frame].looks = static_cast<std::uint8_t>(looks < 255 ? looks : 255);
}

void frame_pool::choose(const frame_at_place& there) {
  lock_guard guard(lock_);
  if (!is_on_demand_locked(there)) return;
  remove_locked(there.frame);
  append_chosen_locked(there.frame);
}

std::uint32_t frame_pool::to_go_next() const {
  lock_guard guard(lock_);
  return chosen_;
}

bool frame_pool::choose_idle() {
  lock_guard guard(lock_);
  const frame_index frame = lists_[normal_list].oldest;
  if (frame == no_frame || clock_ - slots_[frame].used <= capacity_ || slots_[frame].piece_blocks != 1) return false;
  remove_locked(frame);
  append_chosen_locked(frame);
  return true;
}

void frame_pool::make_cold(frame_index frame) {
  lock_guard guard(lock_);
  if (slots_[frame].owner == no_block) return;
  remove_locked(frame);
  list& to = lists_[cold_list];
  slot& s = slots_[frame];
  s.list = cold_list;
  s.chosen = true;
  ++chosen_;
  s.looks = 0;
  ++sizes_[cold_list];
  s.next = to.oldest;
  s.previous = no_frame;
  (to.oldest != no_frame ? slots_[to.oldest].previous : to.newest) = frame;
  to.oldest = frame;
}

std::size_t frame_pool::victims(piece* pieces, std::size_t most, std::size_t skip) const {
  lock_guard guard(lock_);
  std::size_t count = 0;
  for (const list& from : lists_) {
    for (frame_index f = from.oldest; f != no_frame && count < most; f = slots_[f].next) {
      const slot& s = slots_[f];
      // A piece stands where its first frame stands.
      if (s.owner != s.piece_first) continue;
      if (skip > 0) {
        --skip;
        continue;
      }
      pieces[count++] = {{s.piece_first}, s.piece_blocks};
    }
  }
  return count;
}

block_index frame_pool::owner(frame_index frame) const {
  lock_guard guard(lock_);
  return {slots_[frame].owner};
}

piece frame_pool::piece_of(frame_index frame) const {
  lock_guard guard(lock_);
  return {{slots_[frame].piece_first}, slots_[frame].piece_blocks};
}

bool frame_pool::validate() const {
  lock_guard guard(lock_);
  std::uint32_t used = 0;
  std::uint32_t chosen = 0;
  for (const list& from : lists_) {
    frame_index previous = no_frame;
    for (frame_index f = from.oldest; f != no_frame; previous = f, f = slots_[f].next) {
      chosen += slots_[f].chosen ? 1 : 0;
      if (slots_[f].owner == no_block || slots_[f].previous != previous || ++used > capacity_) return false;
    }
    if (from.newest != previous) return false;
  }
  std::uint32_t free = 0;
  for (frame_index f = first_free_; f != no_frame; f = slots_[f].next)
    if (slots_[f].owner != no_block || ++free > capacity_) return false;
  return free == free_ && used + free == capacity_ && chosen == chosen_;
}

}  // namespace gm
