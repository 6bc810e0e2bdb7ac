// SPDX-License-Identifier: Apache-2.0
// Every invariant is broken by hand, one at a time: a check that cannot fail is worth nothing.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "unit/small_vm.h"

namespace gm {
namespace {

constexpr block_index here{3};
constexpr page_mask pages = 0xf0;

// Block 3 with one frame on each of two devices. Pages 4-7 are wherever the test puts them.
class validation : public test::small_vm {
 protected:
  void SetUp() override {
    build({.devices = 2});
    extent& e = allocate(4 * block_bytes);
    ASSERT_LE(e.first_block(), here);
    for (unsigned n = 1; n <= 2; ++n) {
      frame_index frame = no_frame;
      ASSERT_TRUE(vm->device(n).pool.take({here, 1}, victim_class::normal, &frame));
      on(here, n).frame_plus_one = frame + 1;
      on(here, n).address = 1;
    }
  }
  // What was broken is not to be checked again.
  void TearDown() override {}

  void put_on_host() {
    b().backed |= pages;
    ASSERT_TRUE(vm->host.charge(count_pages(pages)));
    b().host().valid |= pages;
  }
  void put_on(unsigned node) { on(here, node).valid |= pages; }
  block& b() const { return at(here); }

  bool holds(bool at_rest = true) {
    why.assign(256, '\0');
    const bool result = validate(*vm, at_rest, why.data(), why.size());
    why.resize(why.find('\0'));
    return result;
  }
  // It holds; then act; then it does not, and the message has the words.
  void expect_caught(const std::function<void()>& act, const std::string& words) {
    ASSERT_TRUE(holds()) << "before it was broken: " << why;
    act();
    EXPECT_FALSE(holds());
    EXPECT_NE(why.find(words), std::string::npos) << why;
  }
  std::string why;
};

TEST_F(validation, good_states_hold) {
  EXPECT_TRUE(holds()) << "all NOMAP: " << why;
  put_on_host();
  EXPECT_TRUE(holds()) << "on the host: " << why;
  b().readable = pages;
  b().host().writable = pages;
  EXPECT_TRUE(holds()) << "writable by the CPU: " << why;
  b().host().writable = no_pages;
  put_on(1);
  EXPECT_TRUE(holds()) << "duplicated: " << why;
  put_on(2);
  EXPECT_TRUE(holds()) << "three of them: " << why;
  b().readable = b().host().valid = no_pages;
  on(here, 2).valid = no_pages;
  on(here, 1).writable = on(here, 1).dirty = pages;
  EXPECT_TRUE(holds()) << "written by a device: " << why;
}

TEST_F(validation, i1_a_device_that_may_write_what_it_does_not_hold) {
  expect_caught([&] { on(here, 1).writable = pages; }, "I1/I2: block 3: node 1 may write 0xf0");
}

TEST_F(validation, i1_a_device_that_may_write_what_another_holds) {
  put_on(1);
  expect_caught(
      [&] {
        on(here, 1).writable = pages;
        put_on(2);
      },
      "I1/I2: block 3: node 1");
}

TEST_F(validation, i2_the_cpu_may_write_what_a_device_holds_too) {
  put_on_host();
  b().readable = pages;
  put_on(2);
  expect_caught([&] { b().host().writable = one_page(5); }, "I1/I2: block 3: node 0 may write 0x20");
}

TEST_F(validation, i3_the_cpu_maps_what_the_host_does_not_hold) {
  put_on(1);
  expect_caught([&] { b().readable = pages; }, "I3: block 3: CPU maps 0xf0");
}

TEST_F(validation, i3_the_cpu_may_write_what_it_does_not_map) {
  put_on_host();
  expect_caught([&] { b().host().writable = pages; }, "I3: block 3: CPU may write 0xf0");
}

TEST_F(validation, i4_a_copy_on_a_device_without_a_frame) {
  put_on(1);
  expect_caught([&] { on(here, 1).frame_plus_one = 0; }, "I4: block 3: pages 0xf0 valid on node 1 without a frame");
}

TEST_F(validation, i4_a_frame_of_another_block) {
  expect_caught([&] { on({2}, 1).frame_plus_one = on(here, 1).frame_plus_one; }, "I4: block 2: its frame on node 1");
}

TEST_F(validation, i5_a_resident_scopes_page_that_is_not_on_its_node) {
  const leased_range ranges[] = {{vm->bytes_of(here, 4, 2), GM_READ}};
  lease l;
  l.ranges = ranges;
  l.node = 1;
  lease_order order;
  ASSERT_EQ(vm->leases.begin_or_wait(l, conflicts::order, order), status::ok);
  ++b().leases;
  ++on(here, 1).leases;
  ASSERT_TRUE(holds()) << "not resident yet: " << why;
  put_on(1);
  vm->leases.set_resident(l);
  expect_caught([&] { on(here, 1).valid &= ~one_page(4); }, "I5: block 3: an open scope's pages");
  b().busy = one_page(4);
  EXPECT_TRUE(holds(false)) << "or busy: " << why;
  b().busy = 0;
  vm->leases.end(l, {});
  EXPECT_TRUE(holds()) << "an ended one's work may be done: " << why;
  vm->leases.remove(l);
}

TEST_F(validation, i5_a_pin_without_a_frame) {
  expect_caught(
      [&] {
        vm->device(1).pool.give_back(on(here, 1).frame());
        on(here, 1).frame_plus_one = 0;
        on(here, 1).pinned = pages;
      },
      "I5: block 3: pinned on node 1");
}

TEST_F(validation, i6_memory_of_a_page_that_nobody_holds) {
  expect_caught([&] { b().backed = one_page(9); }, "I6: block 3: pages 0x200 are NOMAP");
}

TEST_F(validation, i6_a_mapping_of_a_page_that_nobody_holds) {
  expect_caught([&] { b().readable = one_page(9); }, "block 3: CPU maps 0x200");
}

TEST_F(validation, i6_dirt_of_a_page_that_nobody_holds) {
  expect_caught([&] { on(here, 1).dirty = one_page(9); }, "block 3: pages 0x200 dirty on node 1");
}

TEST_F(validation, a_copy_on_the_host_without_memory) {
  put_on_host();
  expect_caught([&] { b().backed &= ~one_page(4); }, "block 3: pages 0x10 valid on the host without memory");
}

TEST_F(validation, dirt_although_the_host_has_the_page) {
  put_on_host();
  put_on(1);
  expect_caught([&] { on(here, 1).dirty = pages; }, "although the host has them");
}

TEST_F(validation, dirt_or_a_frame_of_the_host) {
  expect_caught([&] { b().host().dirty = 1; }, "block 3: the host has frames or dirty pages");
  b().host().dirty = 0;
  expect_caught([&] { b().host().frame_plus_one = 1; }, "block 3: the host has frames or dirty pages");
}

TEST_F(validation, lease_counts_that_do_not_add_up) {
  expect_caught([&] { ++on(here, 2).leases; }, "block 3: 1 leases counted, 0 recorded");
  on(here, 2).leases = 0;
  expect_caught([&] { ++b().leases; }, "block 3: 0 leases counted, 1 recorded");
}

TEST_F(validation, a_page_still_busy_at_rest) {
  put_on_host();
  expect_caught([&] { b().busy = one_page(4); }, "block 3: pages 0x10 busy at rest");
  EXPECT_TRUE(holds(false)) << why;
}

TEST_F(validation, a_busy_page_is_exempt_from_i1_to_i3_while_it_moves) {
  put_on(1);
  on(here, 1).writable = pages;
  put_on(2);
  b().readable = pages;
  ASSERT_FALSE(holds(false));
  b().busy = pages;
  EXPECT_TRUE(holds(false)) << why;
}

TEST_F(validation, f1_a_frame_that_no_block_has) {
  expect_caught(
      [&] {
        frame_index lost = no_frame;
        ASSERT_TRUE(vm->device(2).pool.take({{9}, 1}, victim_class::normal, &lost));
      },
      "F1: node 2: frame 1 belongs to block 9, which has frame -1, address 0x0");
}

TEST_F(validation, host_pages_charged_that_no_block_has) {
  expect_caught([&] { ASSERT_TRUE(vm->host.charge(5)); }, "host pages");
  EXPECT_NE(why.find("blocks hold 0, charged are 5"), std::string::npos) << why;
}

TEST_F(validation, host_pages_that_were_not_charged) {
  put_on_host();
  expect_caught([&] { vm->host.uncharge(1); }, "host pages");
}

TEST_F(validation, at_rest_nothing_of_the_freed_is_kept) {
  constexpr block_index nobodys{8};
  const auto kept = [&](page_mask& where) {
    where = 0x4;
    const bool held = holds();
    where = 0;
    return !held && why == "block 8: pages 0x4 are nobody's and something of them is kept";
  };
  EXPECT_TRUE(kept(at(nobodys).willneed)) << why;
  EXPECT_TRUE(kept(on(nobodys, 0).pinned)) << why;
  frame_index frame = no_frame;
  ASSERT_TRUE(vm->device(1).pool.take({nobodys, 1}, victim_class::normal, &frame));
  on(nobodys, 1).frame_plus_one = frame + 1;
  EXPECT_TRUE(kept(on(nobodys, 1).valid)) << why;
  on(nobodys, 1).valid = 0x4;
  EXPECT_TRUE(holds(false)) << "until its memory is reclaimed: " << why;
}

TEST_F(validation, an_allocation_that_starts_where_nothing_is_allocated) {
  at({8}).starts = 0x1;
  EXPECT_FALSE(holds());
  EXPECT_EQ(why, "block 8: allocations start at pages 0x1, which are nobody's");
}

TEST_F(validation, a_short_buffer_gets_what_fits) {
  b().backed = one_page(9);
  char small[8];
  EXPECT_FALSE(validate(*vm, true, small, sizeof small));
  EXPECT_STREQ(small, "I6: blo");
}

TEST_F(validation, the_last_block_of_the_arena_is_looked_at) {
  on({15}, 0).dirty = 1;
  EXPECT_FALSE(holds());
}

}  // namespace
}  // namespace gm
