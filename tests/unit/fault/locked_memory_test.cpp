// SPDX-License-Identifier: Apache-2.0
// locked_memory_test.cpp - mlock and mlockall, by which the kernel maps pages that nobody touches and keeps others from
// being dropped. Sanitizers make the calls do nothing.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

class locked_memory : public every_flavour {};
INSTANTIATE_TEST_SUITE_P(modes, locked_memory, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(locked_memory, moves_as_ever) {
  byte* p = make_written(4 * page);
  if (mlock(p, 4 * page) != 0) GTEST_SKIP() << "no memory may be locked here: " << std::strerror(errno);
  gm_stream s = stream();
  device_writes(s, p, 4 * page, 9);
  EXPECT_TRUE(all_are(p, 4 * page, 9));
  munlock(p, 4 * page);
}

TEST_P(locked_memory, that_was_freed_is_sigsegv) {
  byte* p = make_written(page);
  if (mlock(p, page) != 0) GTEST_SKIP() << "no memory may be locked here: " << std::strerror(errno);
  free(p);
  EXPECT_EQ(signals_.during([&] { touch_read(p); }), SIGSEGV);
  munlock(p, page);
}

class locked_process_death_test : public running_gmem, public testing::WithParamInterface<flavour> {
 protected:
  static gm_options tiny_options() {
    gm_options o = small_options(GetParam());
    o.arena_size_bytes = 64 * mib;  // mlockall fills what there is
    return o;
  }
  // What a device writes is read; what is freed is SIGSEGV; and gmem stops.
  void use_and_stop() {
    byte* p = make_written(4 * page);
    gm_stream s = stream();
    device_writes(s, p, 4 * page, 9);
    if (!all_are(p, 4 * page, 9)) std::_Exit(2);
    free(p);
    if (signals_.during([&] { touch_read(p); }) != SIGSEGV) std::_Exit(3);
    if (gm_stream_destroy(s) != GM_OK || gm_shutdown() != GM_OK) std::_Exit(4);
    std::_Exit(7);
  }
};
INSTANTIATE_TEST_SUITE_P(modes, locked_process_death_test, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(locked_process_death_test, mlockall_before_the_start) {
  EXPECT_EXIT(
      {
        if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) std::_Exit(7);  // not allowed here
        start(tiny_options());
        use_and_stop();
      },
      testing::ExitedWithCode(7), "");
}

TEST_P(locked_process_death_test, mlockall_while_it_runs) {
  EXPECT_EXIT(
      {
        start(tiny_options());
        byte* p = make_written(2 * page);
        if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) std::_Exit(7);
        if (p[page] != 2) std::_Exit(1);
        free(p);
        use_and_stop();
      },
      testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace gm::test
