// SPDX-License-Identifier: Apache-2.0
// Writes of the CPU to pages that a device has too: what is taken from the device.
#include "unit/fault/serving.h"

namespace gm {
namespace {

using test::mapped;
using test::outcome;
using test::read;
using test::serving;
using test::write;

class shared_writes : public serving {
 protected:
  // The first device has a copy of these pages of the host's, and the CPU does not map them.
  void share(page_mask pages) {
    host_holds(pages);
    device_reads(1, pages);
  }
  page_mask device_has() const { return on(here, 1).valid; }
};

TEST_F(shared_writes, take_the_written_page_and_no_other) {
  share(all_pages);
  for (const unsigned page : {3U, 4U, 5U, 20U}) ASSERT_EQ(touch(page, write), outcome::served);
  EXPECT_EQ(b().host().writable, 0x00100038U);
  EXPECT_EQ(device_has(), ~0x00100038U);
}

TEST_F(shared_writes, nor_more_behind_reads_in_order) {
  share(all_pages);
  for (unsigned page = 0; page < 32; ++page)
    if ((b().readable & one_page(page)) == 0) ASSERT_EQ(touch(page, read), outcome::served);
  ASSERT_EQ(touch(0, write), outcome::served);
  ASSERT_EQ(touch(1, write), outcome::served);
  EXPECT_EQ(device_has(), ~0x3U);
}

TEST_F(shared_writes, take_blocks_when_a_blocks_worth_was_written_in_order) {
  share(all_pages);
  const block_index second{here.value + 1};
  for (unsigned page = 0; page < 32; ++page) {
    ASSERT_EQ(device_has(), ~pages_between(0, page));
    ASSERT_EQ(touch(page, write), outcome::served);
  }
  const block_index first = here;
  here = second;
  share(all_pages);
  ASSERT_EQ(touch(0, write), outcome::served);
  EXPECT_EQ(device_has(), no_pages);
  EXPECT_EQ(b().host().writable, all_pages);
  here = first;
}

TEST_F(shared_writes, are_told_by_advice) {
  advise([](advice& a) { a.pattern = access_pattern::sequential; });
  share(all_pages);
  ASSERT_EQ(touch(4, write), outcome::served);
  EXPECT_EQ(device_has(), 0xfU) << "the rest of the block";
  start({});
  advise([](advice& a) { a.pattern = access_pattern::random; });
  share(all_pages);
  for (unsigned page = 0; page < 31; ++page) ASSERT_EQ(touch(page, write), outcome::served);
  EXPECT_EQ(device_has(), one_page(31));
  start({});
  advise([](advice& a) { a.accessed_by = 1; });
  share(all_pages);
  ASSERT_EQ(touch(4, write), outcome::served);
  EXPECT_EQ(device_has(), ~one_page(4)) << "that the CPU will map it says nothing of writes";
}

TEST_F(shared_writes, do_not_join_writes_of_what_only_the_host_has) {
  host_holds(0xffff);
  device_reads(1, 0xff00);
  for (const unsigned page : {0U, 1U, 3U}) ASSERT_EQ(touch(page, write), outcome::served);
  ASSERT_EQ(touch(7, write), outcome::served) << "a window of eight";
  EXPECT_EQ(b().host().writable, 0xffU);
  EXPECT_EQ(device_has(), 0xff00U);
}

TEST_F(shared_writes, nor_writes_of_what_only_a_device_has) {
  advise([](advice& a) { a.accessed_by = 1; });
  device_wrote(1, 0xf0);
  share(0x0f);
  ASSERT_EQ(touch(4, write), outcome::wait_copy);
  EXPECT_EQ(device_has(), 0x0fU);
  EXPECT_EQ(kernel_has(0), mapped::absent);
}

}  // namespace
}  // namespace gm
