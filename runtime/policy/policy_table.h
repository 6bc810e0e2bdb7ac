// SPDX-License-Identifier: Apache-2.0
// policy_table.h - the questions of include/gmem/policy.h, asked: the built-in answer, the program's where it has set a
// function, and of that what is legal.
//
// One table for the process, since a program may set it before gmem runs. Asking is lock-free and, with nothing set,
// one load. Setting waits until nobody is in a function of the table before:
//   an asker enters the phase of the moment (a count a phase, two of them, and looks again whether it still is the
//   one), takes the pointer, calls, leaves; the setter changes the pointer, then the phase, and waits for the old count
//   to be zero. Who entered later has seen the new pointer; the other count was zero when the setter before had ended.
// Locking: rank policy, by setters only, held while askers are waited for: nothing else is taken under it. Askers may
// hold any lock, and be in signal handlers. Nothing here allocates save setting.
// What was set last is kept for good: the process's table is never destroyed.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/mutex.h"
#include "base/page_mask.h"
#include "base/status.h"
#include "gmem/policy.h"
#include "policy/placement.h"
#include "policy/read_ahead.h"
#include "policy/thrash.h"
#include "policy/victim_order.h"

namespace gm {

inline constexpr std::uint32_t most_units_ahead_of_policy = 64;
inline constexpr std::uint64_t longest_pin_of_policy_ns = 100'000'000;

// A fault, and the masks of its block for the node that faults.
struct pages_question {
  page_index page;
  unsigned node = host_node;
  bool write = false;
  advice told = {};
  page_mask requested = no_pages;  // what is brought in any case
  page_mask present = no_pages;
  page_mask elsewhere = no_pages;
  page_mask legal = no_pages;  // what may be brought beside those
};

struct ahead_question {
  page_index page;
  unsigned node = host_node;
  std::uint32_t pages_a_unit = 1;
  ahead_touch touch;
  advice told = {};
};

struct victim_question {
  page_index page;  // the first of its block
  unsigned node = host_node;
  frame_look frame;
};

class policy_table {
 public:
  // For gm_policy_set and gm_policy_get.
  status set(const gm_policy*);
  status get(gm_policy*);

  // Each takes the built-in answer, and gives the one to act on. Of what the program says, only what is legal is kept.
  page_mask pages(const pages_question&, page_mask built_in);
  page_mask writes(const pages_question&, page_mask built_in);
  ahead_answer ahead(const ahead_question&, ahead_answer built_in);
  verdict victim(const victim_question&, verdict built_in);
  thrash_answer movement(const gm::movement&, unsigned nodes, thrash_answer built_in);
  placement_answer placement(page_index, const placement_question&, unsigned nodes, placement_answer built_in);

 private:
  template <typename Ask>
  void ask(Ask&&);

  mutex<lock_rank::policy> lock_;
  std::atomic<const gm_policy*> table_{nullptr};  // null: all built in
  std::atomic<std::uint32_t> phase_{0};
  std::atomic<std::uint32_t> askers_[2] = {};
};

// The process's own. Never destroyed: faults are served until the process ends.
policy_table& the_policy();

}  // namespace gm
