// SPDX-License-Identifier: Apache-2.0
// bounces.h - blocks that go to and fro between the CPU and kernels, or kernels of two devices: what policy remembers
// of them (policy/thrash.h), for all who serve faults.
//
// A block that policy pins stays where it is for a while: kernels' requests for it wait, and a CPU's fault, which must
// not wait for a time to pass, takes no more than the page it needs.
// Locking: rank bounces, for a few instructions. Threads: any.
#pragma once

#include "base/mutex.h"
#include "policy/policy_table.h"
#include "policy/thrash.h"

namespace gm {

class bounces {
 public:
  // A node wants pages of the block that others have. What to do about it.
  thrash_answer wanted(const movement& m, unsigned nodes) {
    lock_guard guard(lock_);
    return the_policy().movement(m, nodes, next_treatment(table_, m));
  }
  // Whether the answer keeps the block from the node.
  static bool keeps_from(const thrash_answer& answer, unsigned node) {
    return (answer.how == treatment::pin || answer.how == treatment::remote) && answer.node != node;
  }

 private:
  mutex<lock_rank::bounces> lock_;
  thrash_table table_;
};

}  // namespace gm
