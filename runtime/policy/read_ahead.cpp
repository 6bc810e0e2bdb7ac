// SPDX-License-Identifier: Apache-2.0
#include "policy/read_ahead.h"

#include <algorithm>

namespace gm {
namespace {

std::int64_t distance(const ahead_stream& s, const ahead_touch& touch) {
  return static_cast<std::int64_t>(touch.unit - s.last);
}

// How many steps ahead of that unit of the stream the touch is; 0: not on its way, or further than was brought.
std::uint64_t steps_ahead(const ahead_stream& s, std::uint64_t from, const ahead_touch& touch) {
  const auto d = static_cast<std::int64_t>(touch.unit - from);
  if (s.step == 0 || d == 0 || (d < 0) != (s.step < 0) || d % s.step != 0) return 0;
  const auto steps = static_cast<std::uint64_t>(d / s.step);
  return steps <= s.ahead + 1 ? steps : 0;
}

// A touch of what the stream has passed a short while ago, or has just touched.
bool was_passed(const ahead_stream& s, const ahead_touch& touch) {
  const std::int64_t d = distance(s, touch);
  if (d == 0) return true;
  if (s.steps < 2 || (d < 0) == (s.step < 0) || d % s.step != 0) return false;
  return static_cast<std::uint64_t>(-d / s.step) <= most_units_ahead;
}

bool within_reach(const ahead_stream& s, const ahead_touch& touch) {
  const std::int64_t d = distance(s, touch);
  return static_cast<std::uint64_t>(d < 0 ? -d : d) <= longest_step_units;
}

ahead_answer answer_of(const ahead_stream& s, const ahead_touch& touch) {
  return {s.step, units_inside(touch, s.step, std::min(s.ahead, touch.most)), s.steps >= steps_of_streamed_data};
}

// The touch is so many steps further on. The next one, or the first that was not brought, says that the stream goes on
// as it was; one in between was brought in vain, or is another's.
ahead_answer follow(ahead_stream& s, const ahead_touch& touch, std::uint64_t steps, std::uint32_t now) {
  const bool as_expected = steps == 1 || steps == s.ahead + 1;
  s.last = s.late = touch.unit;
  s.steps = as_expected ? std::min(s.steps + 1, steps_of_streamed_data) : std::max(s.steps - 1, 1U);
  s.ahead = std::clamp<std::uint32_t>(as_expected ? s.ahead * 2 : s.ahead / 2, 1, std::max(touch.most, 1U));
  s.used = now;
  return answer_of(s, touch);
}

ahead_answer guess(ahead_stream& s, const ahead_touch& touch, std::uint32_t now) {
  s.step = distance(s, touch);
  s.last = s.late = touch.unit;
  s.steps = 1;
  s.ahead = s.step == 1 || s.step == -1 ? 1 : 0;
  s.used = now;
  return answer_of(s, touch);
}

}  // namespace

std::uint32_t units_inside(const ahead_touch& touch, std::int64_t step, std::uint32_t count) {
  if (step == 0) return 0;
  const std::uint64_t room = step > 0 ? touch.last - 1 - touch.unit : touch.unit - touch.first;
  const std::uint64_t length = step > 0 ? static_cast<std::uint64_t>(step) : -static_cast<std::uint64_t>(step);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(count, room / length));
}

ahead_answer next_ahead(ahead_table& table, const ahead_touch& touch) {
  if (touch.pattern == access_pattern::random) return {};
  if (touch.pattern == access_pattern::sequential) return {1, units_inside(touch, 1, touch.most), true};
  const std::uint32_t now = ++table.now != 0 ? table.now : ++table.now;  // 0 is an unused stream's
  ahead_stream* passed = nullptr;
  ahead_stream* nearest = nullptr;  // one that is not known yet, and may be this one
  ahead_stream* oldest = table.streams;
  for (ahead_stream& s : table.streams) {
    if (s.used == 0 || (oldest->used != 0 && now - s.used > now - oldest->used)) oldest = &s;
    if (s.used == 0 || s.allocation != touch.first) continue;
    if (const std::uint64_t steps = steps_ahead(s, s.last, touch); steps != 0) return follow(s, touch, steps, now);
    if (was_passed(s, touch))
      passed = &s;
    else if (s.steps < 2 && within_reach(s, touch) && (nearest == nullptr || s.used > nearest->used))
      nearest = &s;
  }
  if (passed != nullptr) {
    if (passed->late != passed->last && steps_ahead(*passed, passed->late, touch) == 1)
      return follow(*passed, touch, 1, now);
    passed->late = touch.unit;
    return {0, 0, passed->steps >= steps_of_streamed_data};
  }
  if (nearest != nullptr) return guess(*nearest, touch, now);
  *oldest = {.allocation = touch.first, .last = touch.unit, .late = touch.unit, .used = now};
  return {};
}

}  // namespace gm
