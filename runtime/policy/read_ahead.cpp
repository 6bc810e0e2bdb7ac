// SPDX-License-Identifier: Apache-2.0
#include "policy/read_ahead.h"

#include <algorithm>

namespace gm {
namespace {

std::int64_t distance(const ahead_stream& s, const ahead_touch& touch) {
  return static_cast<std::int64_t>(touch.unit - s.last);
}

// Units one after the other: a walk goes through them from end to end.
bool comes_in(const ahead_touch& touch, std::int64_t step) {
  return step == 1 ? touch.at_begin : step == -1 ? touch.at_end : true;
}

// How many steps ahead of that unit of the stream the touch is; 0: not on its way, or further than was brought.
std::uint64_t steps_ahead(const ahead_stream& s, std::uint64_t from, const ahead_touch& touch) {
  const auto d = static_cast<std::int64_t>(touch.unit - from);
  if (s.step == 0 || d == 0 || (d < 0) != (s.step < 0) || d % s.step != 0 || !comes_in(touch, s.step)) return 0;
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

ahead_answer answer_of(const ahead_stream& s, const ahead_touch& touch) {
  return {s.step, units_inside(touch, s.step, std::min(s.ahead, touch.most)), s.steps >= steps_of_streamed_data,
          s.ahead != 0};
}

// The touch is so many steps further on. The next one, or the first that was not brought, says that the stream goes on
// as it was; one in between was brought in vain, or is another's.
ahead_answer follow(ahead_stream& s, const ahead_touch& touch, std::uint64_t steps) {
  const bool as_expected = steps == 1 || steps == s.ahead + 1;
  s.last = s.late = touch.unit;
  s.steps = as_expected ? std::min(s.steps + 1, steps_of_streamed_data) : std::max(s.steps - 1, 1U);
  s.ahead = std::clamp<std::uint32_t>(as_expected ? s.ahead * 2 : s.ahead / 2, 1, std::max(touch.most, 1U));
  return answer_of(s, touch);
}

// A stream that is not followed before so many touches of its allocation that are no stream's was none, or is over.
constexpr std::uint32_t patience_of_guess = 4;
constexpr std::uint32_t patience_of_known = 8;

bool is_over(const ahead_stream& s) { return s.lone_since > (s.steps < 2 ? patience_of_guess : patience_of_known); }

// So many of an allocation's lone touches, the last ones, are asked whether a touch goes on from them: walks take
// turns.
constexpr unsigned most_asked = 4;

// The allocation's lone touches, the last first.
struct lone_touches {
  std::uint64_t units[most_asked];
  unsigned count = 0;

  lone_touches(const ahead_table& table, std::uint64_t allocation) {
    for (const ahead_table::lone_touch& t : table.lone)
      if (t.is_one && t.allocation == allocation && count < most_asked) units[count++] = t.unit;
  }
  bool contains(std::uint64_t unit) const { return std::find(units, units + count, unit) != units + count; }
};

// The touch becomes the last of them, or again.
void remember(ahead_table& table, const ahead_touch& touch) {
  ahead_table::lone_touch* place = table.lone;
  while (place != table.lone + ahead_table::lone_count - 1 && place->is_one &&
         !(place->allocation == touch.first && place->unit == touch.unit))
    ++place;
  std::copy_backward(table.lone, place, place + 1);
  table.lone[0] = {touch.first, touch.unit, true};
}

// What a lone touch begins, seen beside those before it: the neighbour of the last one is believed, that of another one
// has to go on; other steps have to be seen twice. steps is 0 where it begins nothing.
ahead_stream begun_by(const lone_touches& before, const ahead_touch& touch) {
  ahead_stream s{.allocation = touch.first, .last = touch.unit, .late = touch.unit};
  for (unsigned i = 0; i < before.count; ++i) {
    const auto step = static_cast<std::int64_t>(touch.unit - before.units[i]);
    if ((step != 1 && step != -1) || !comes_in(touch, step)) continue;
    s.step = step;
    s.steps = 1;
    s.ahead = i == 0 ? 1 : 0;
    return s;
  }
  for (unsigned i = 0; i < before.count; ++i) {
    const auto step = static_cast<std::int64_t>(touch.unit - before.units[i]);
    if (static_cast<std::uint64_t>(step < 0 ? -step : step) > longest_step_units || !comes_in(touch, step)) continue;
    if (!before.contains(before.units[i] - static_cast<std::uint64_t>(step))) continue;
    s.step = step;
    s.steps = 2;
    s.ahead = 1;
    return s;
  }
  return s;
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
  if (touch.pattern == access_pattern::sequential) return {1, units_inside(touch, 1, touch.most), true, true};
  const std::uint32_t now = ++table.now != 0 ? table.now : ++table.now;  // 0 is an unused stream's
  ahead_stream* passed = nullptr;
  ahead_stream* oldest = table.streams;
  const auto use = [now](ahead_stream& s) {
    s.used = now;
    s.lone_since = 0;
  };
  for (ahead_stream& s : table.streams) {
    if (s.used == 0 || (oldest->used != 0 && now - s.used > now - oldest->used)) oldest = &s;
    if (s.used == 0 || s.allocation != touch.first) continue;
    if (const std::uint64_t steps = steps_ahead(s, s.last, touch); steps != 0) {
      use(s);
      return follow(s, touch, steps);
    }
    if (was_passed(s, touch)) passed = &s;
  }
  if (passed != nullptr) {
    if (passed->late != passed->last && steps_ahead(*passed, passed->late, touch) == 1) {
      use(*passed);
      return follow(*passed, touch, 1);
    }
    if (passed->last == touch.unit) passed->used = now;
    passed->late = touch.unit;
    return {0, 0, passed->steps >= steps_of_streamed_data};
  }
  if (!touch.may_begin) return {};
  const lone_touches before(table, touch.first);
  remember(table, touch);
  if (before.contains(touch.unit)) return {};
  const ahead_stream begun = begun_by(before, touch);
  for (ahead_stream& s : table.streams) {
    if (s.used == 0 || s.allocation != touch.first) continue;
    ++s.lone_since;
    if (is_over(s)) s = {};
    if (s.used == 0) oldest = &s;
  }
  if (begun.steps == 0) return {};
  *oldest = begun;
  use(*oldest);
  return answer_of(*oldest, touch);
}

}  // namespace gm
