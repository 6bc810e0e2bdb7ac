// SPDX-License-Identifier: Apache-2.0
#include "base/mutex.h"

#ifdef GMEM_DEBUG_CHECKS
#include "base/check.h"

namespace gm {
namespace {
thread_local std::uint32_t ranks_held = 0;  // bit r: a lock of rank r is held by this thread
static_assert(static_cast<unsigned>(lock_rank::count_) <= 32);
}  // namespace

void rank_acquired(lock_rank rank) {
  const auto bit = std::uint32_t{1} << static_cast<unsigned>(rank);
  if (ranks_held >= bit)
    die(__FILE__, __LINE__, "lock of rank %u taken while ranks 0x%x are held", static_cast<unsigned>(rank), ranks_held);
  ranks_held |= bit;
}

void rank_released(lock_rank rank) {
  const auto bit = std::uint32_t{1} << static_cast<unsigned>(rank);
  GM_CHECK((ranks_held & bit) != 0);
  ranks_held &= ~bit;
}

}  // namespace gm
#endif
