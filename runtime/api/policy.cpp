// SPDX-License-Identifier: Apache-2.0
// policy.cpp - entry points: the program's policy. They start nothing: a policy holds for the process.
#include "policy/policy_table.h"

#include "api/runtime.h"

using namespace gm;

namespace {

// In a forked child somebody may have been in a function of the policy, who will not come out there.
status check_process() {
  if (!in_forked_child()) return status::ok;
  return fail(status::unsupported, "this is a forked child: gmem stays with the parent");
}

}  // namespace

gm_status gm_policy_set(const gm_policy* policy) {
  status s = check_process();
  if (s == status::ok) s = the_policy().set(policy);
  return static_cast<gm_status>(s);
}

gm_status gm_policy_get(gm_policy* policy) {
  status s = check_process();
  if (s == status::ok) s = the_policy().get(policy);
  return static_cast<gm_status>(s);
}
