// SPDX-License-Identifier: Apache-2.0
#include "policy/policy_table.h"

#include <sched.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

namespace gm {
namespace {

constexpr std::size_t least_size = offsetof(gm_policy, read_ahead);

bool is_empty(const gm_policy& p) {
  return p.fault_pages == nullptr && p.read_ahead == nullptr && p.victim == nullptr && p.movement == nullptr &&
         p.placement == nullptr && p.device_writes == nullptr;
}

status check_size(std::size_t size) {
  if (size >= least_size) return status::ok;
  return fail(status::invalid_argument, "gm_policy.size is %zu: set it to sizeof(gm_policy)", size);
}

// The table as this library knows it. A longer one may only hold nothing more.
status read_table(const gm_policy* given, gm_policy& result) {
  result = {};
  if (given == nullptr) return status::ok;
  if (const status s = check_size(given->size); s != status::ok) return s;
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  if (given->size > sizeof result &&
      std::any_of(bytes + sizeof result, bytes + given->size, [](unsigned char b) { return b != 0; }))
    return fail(status::unsupported, "gm_policy has functions that this library (%s) does not know: set them to NULL",
                gm_version());
  std::memcpy(&result, given, std::min(given->size, sizeof result));
  result.size = sizeof result;
  return status::ok;
}

gm_policy_advice to_c(const advice& a) {
  gm_policy_advice c{};
  c.read_mostly = a.read_mostly;
  c.cold = a.cold;
  c.sequential = a.pattern == access_pattern::sequential;
  c.random = a.pattern == access_pattern::random;
  c.preferred_node = preferred_node_of(a);
  c.accessed_by = a.accessed_by;
  return c;
}

gm_policy_fault to_c(const pages_question& q) {
  return {.page = q.page.value,
          .node = static_cast<std::int32_t>(q.node),
          .write = q.write,
          .advice = to_c(q.told),
          .requested = q.requested,
          .present = q.present,
          .elsewhere = q.elsewhere,
          .legal = q.legal};
}

bool is_node(std::int32_t node, unsigned nodes) { return node >= 0 && static_cast<unsigned>(node) < nodes; }

}  // namespace

policy_table& the_policy() {
  static constinit policy_table table;
  return table;
}

template <typename Ask>
void policy_table::ask(Ask&& ask_it) {
  if (table_.load(std::memory_order_relaxed) == nullptr) return;
  std::uint32_t phase = phase_.load();
  for (;;) {
    askers_[phase & 1].fetch_add(1);
    const std::uint32_t now = phase_.load();
    if (now == phase) break;
    askers_[phase & 1].fetch_sub(1);
    phase = now;
  }
  if (const gm_policy* table = table_.load(); table != nullptr) ask_it(*table);
  askers_[phase & 1].fetch_sub(1);
}

status policy_table::set(const gm_policy* given) {
  gm_policy wanted{};
  if (const status s = read_table(given, wanted); s != status::ok) return s;
  std::unique_ptr<gm_policy> made;
  if (!is_empty(wanted)) {
    made.reset(new (std::nothrow) gm_policy(wanted));
    if (made == nullptr) return fail(status::no_memory, "no memory to keep a policy");
  }
  lock_guard guard(lock_);
  const std::unique_ptr<const gm_policy> before(table_.exchange(made.release()));
  const std::uint32_t phase = phase_.fetch_add(1);
  while (askers_[phase & 1].load() != 0) sched_yield();
  return status::ok;
}

status policy_table::get(gm_policy* result) {
  if (result == nullptr) return fail(status::invalid_argument, "policy is null");
  if (const status s = check_size(result->size); s != status::ok) return s;
  gm_policy now{};
  {
    lock_guard guard(lock_);
    if (const gm_policy* table = table_.load(); table != nullptr) now = *table;
  }
  now.size = std::min(result->size, sizeof now);
  std::memcpy(result, &now, now.size);
  return status::ok;
}

page_mask policy_table::pages(const pages_question& q, page_mask built_in) {
  page_mask pages = built_in;
  ask([&](const gm_policy& table) {
    if (table.fault_pages == nullptr) return;
    const gm_policy_fault fault = to_c(q);
    table.fault_pages(table.context, &fault, &pages);
  });
  return (pages & q.legal) | q.requested;
}

page_mask policy_table::writes(const pages_question& q, page_mask built_in) {
  page_mask pages = built_in;
  ask([&](const gm_policy& table) {
    if (table.device_writes == nullptr) return;
    const gm_policy_fault fault = to_c(q);
    table.device_writes(table.context, &fault, &pages);
  });
  return (pages & q.legal) | q.requested;
}

ahead_answer policy_table::ahead(const ahead_question& q, ahead_answer built_in) {
  ask([&](const gm_policy& table) {
    if (table.read_ahead == nullptr) return;
    const gm_policy_touch touch{
        .page = q.page.value,
        .node = static_cast<std::int32_t>(q.node),
        .pages_a_unit = q.pages_a_unit,
        .unit = q.touch.unit,
        .first_unit = q.touch.first,
        .last_unit = q.touch.last,
        .advice = to_c(q.told),
    };
    gm_policy_ahead answer{built_in.step, built_in.count, built_in.streamed};
    table.read_ahead(table.context, &touch, &answer);
    const std::uint32_t count = std::min(answer.count, most_units_ahead_of_policy);
    const bool as_it_was = answer.step == built_in.step && answer.count == built_in.count;
    const std::uint32_t inside = units_inside(q.touch, answer.step, count);
    built_in = {answer.step, inside, answer.streamed != 0, as_it_was ? built_in.walking : inside != 0};
  });
  return built_in;
}

verdict policy_table::victim(const victim_question& q, verdict built_in) {
  ask([&](const gm_policy& table) {
    if (table.victim == nullptr) return;
    const gm_policy_frame frame{
        .page = q.page.value,
        .node = static_cast<std::int32_t>(q.node),
        .advised = static_cast<std::int32_t>(q.frame.advised),
        .list = static_cast<std::int32_t>(q.frame.list),
        .newest = q.frame.newest,
        .accessed = q.frame.accessed,
        .looks = q.frame.looks,
    };
    auto answer = static_cast<std::int32_t>(built_in);
    table.victim(table.context, &frame, &answer);
    if (answer >= GM_VERDICT_EVICT && answer <= GM_VERDICT_DEMOTE) built_in = static_cast<verdict>(answer);
  });
  return built_in;
}
static_assert(static_cast<int>(verdict::evict) == GM_VERDICT_EVICT);
static_assert(static_cast<int>(verdict::look_again) == GM_VERDICT_LOOK_AGAIN);
static_assert(static_cast<int>(verdict::promote) == GM_VERDICT_PROMOTE);
static_assert(static_cast<int>(verdict::demote) == GM_VERDICT_DEMOTE);

thrash_answer policy_table::movement(const gm::movement& m, unsigned nodes, thrash_answer built_in) {
  ask([&](const gm_policy& table) {
    if (table.movement == nullptr) return;
    const gm_policy_movement c{
        .block = m.block.value,
        .node = static_cast<std::int32_t>(m.to),
        .write = m.write,
        .remote_possible = m.remote_possible,
        .reserved = 0,
        .now_ns = m.now_ns,
    };
    gm_policy_treatment answer{static_cast<std::int32_t>(built_in.how), static_cast<std::int32_t>(built_in.node),
                               built_in.until_ns};
    table.movement(table.context, &c, &answer);
    if (answer.how < GM_TREAT_NORMAL || answer.how > GM_TREAT_REMOTE || !is_node(answer.node, nodes)) return;
    built_in = {static_cast<treatment>(answer.how), static_cast<unsigned>(answer.node),
                std::min(answer.until_ns, m.now_ns + longest_pin_of_policy_ns)};
    if (built_in.how == treatment::remote && !m.remote_possible) built_in.how = treatment::pin;
  });
  return built_in;
}
static_assert(static_cast<int>(treatment::normal) == GM_TREAT_NORMAL);
static_assert(static_cast<int>(treatment::duplicate) == GM_TREAT_DUPLICATE);
static_assert(static_cast<int>(treatment::pin) == GM_TREAT_PIN);
static_assert(static_cast<int>(treatment::remote) == GM_TREAT_REMOTE);

placement_answer policy_table::placement(page_index page, const placement_question& q, unsigned nodes,
                                         placement_answer built_in) {
  ask([&](const gm_policy& table) {
    if (table.placement == nullptr) return;
    const gm_policy_wish wish{
        .page = page.value,
        .node = static_cast<std::int32_t>(q.node),
        .write = q.write,
        .advice = to_c(q.told),
        .remote_possible = q.remote_possible,
        .node_count = static_cast<std::int32_t>(nodes),
        .valid_nodes = q.valid_nodes,
    };
    gm_policy_place answer{static_cast<std::int32_t>(built_in.node), built_in.duplicate};
    table.placement(table.context, &wish, &answer);
    const bool node_counts = is_node(answer.node, nodes) && q.remote_possible;
    built_in = {node_counts ? static_cast<unsigned>(answer.node) : q.node, answer.duplicate != 0 && !q.write};
  });
  return built_in;
}

}  // namespace gm
