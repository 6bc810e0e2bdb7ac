// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "unit/running_gmem.h"

namespace gm::test {
namespace {

// Holds a stream until it is opened.
class gate {
 public:
  explicit gate(gm_stream s) {
    EXPECT_EQ(gm_stream_call(
                  s,
                  [](void* self) {
                    auto* g = static_cast<gate*>(self);
                    g->reached_ = true;
                    g->open_.wait(false);
                    g->passed_ = true;
                  },
                  this),
              GM_OK);
  }
  ~gate() {
    open();
    while (!passed_) std::this_thread::yield();
  }
  void open() {
    open_ = true;
    open_.notify_all();
  }
  void wait_until_reached() const {
    while (!reached_) std::this_thread::yield();
  }

 private:
  std::atomic<bool> open_{false};
  std::atomic<bool> reached_{false};
  std::atomic<bool> passed_{false};
};

class scopes : public every_flavour {
 protected:
  std::uint64_t pages_in(int node) const { return stats().node[node].pages_in; }
};
INSTANTIATE_TEST_SUITE_P(flavours, scopes, testing::ValuesIn(flavours), name_of_flavour);

TEST_P(scopes, a_kernel_reads_what_the_cpu_wrote_and_the_cpu_what_the_kernel_wrote) {
  byte* p = make_written(3 * block + page);
  gm_stream s = stream();
  EXPECT_EQ(device_reads(s, p + 2 * block, 10)[0], 65);
  device_writes(s, p + page, 2 * block, 250);
  EXPECT_EQ(p[0], 1);
  EXPECT_TRUE(all_are(p + page, 2 * block, 250));
  EXPECT_EQ(p[2 * block + page], 66);
}

TEST_P(scopes, writing_keeps_the_bytes_outside_the_range) {
  struct {
    std::size_t first, bytes;
  } const cases[] = {{100, 50},                          // inside a page
                     {page - 10, 20},                    // over an edge
                     {page, page},                       // exactly one
                     {page + 1, 3 * page},               // two halves and two wholes
                     {block - page - 5, 2 * page + 10},  // over the edge of a block
                     {0, 2 * block}};
  gm_stream s = stream();
  for (const bool on_device : {false, true}) {
    for (const auto& c : cases) {
      byte* p = make_written(2 * block);
      if (on_device) device_writes(s, p, 2 * block, 99);
      device_writes(s, p + c.first, c.bytes, 7, GM_WRITE);
      for (std::size_t i = 0; i < 2 * block; ++i) {
        const byte old = on_device ? 99 : static_cast<byte>(1 + i / page);
        const byte expected = i >= c.first && i < c.first + c.bytes ? 7 : old;
        ASSERT_EQ(p[i], expected) << "byte " << i << " after " << c.bytes << " from " << c.first << " were overwritten";
      }
      free(p);
    }
  }
}

TEST_P(scopes, whole_pages_that_are_overwritten_are_not_copied) {
  byte* p = make_written(block);
  gm_stream s = stream();
  ASSERT_EQ(gm_stats_reset(), GM_OK);
  device_writes(s, p + page, 4 * page, 3, GM_WRITE);
  EXPECT_EQ(pages_in(1), 0U);
  device_writes(s, p + 5 * page + 1, 4 * page, 3, GM_WRITE);
  EXPECT_EQ(pages_in(1), 2U) << "the first and the last are partly needed";
}

TEST_P(scopes, what_is_there_already_moves_nothing) {
  byte* p = make_written(2 * block);
  gm_stream s = stream();
  (void)device_reads(s, p, 2 * block);
  touch_read(p);
  ASSERT_EQ(gm_stats_reset(), GM_OK);
  (void)device_reads(s, p, 2 * block);
  EXPECT_EQ(p[block], 33) << "and the CPU kept its copy";
  EXPECT_EQ(pages_in(1), 0U);
  EXPECT_EQ(pages_in(0), 0U);
}

TEST_P(scopes, several_ranges_come_together) {
  byte* a = make_written(page, 10);
  byte* b = make_written(3 * page, 20);
  byte* c = make_written(block, 100);
  gm_stream s = stream();
  const gm_access accesses[] = {{c, block, GM_READ}, {a, page, GM_READ_WRITE}, {b + page, page, GM_READ}};
  gm_scope scope = nullptr;
  ASSERT_EQ(gm_access_begin(s, accesses, 3, &scope), GM_OK) << gm_last_error();
  ASSERT_EQ(gm_stream_synchronize(s), GM_OK) << "the copies are done, and the scope is open";
  for (byte* p : {a, b + page, c, c + block - 1}) {
    EXPECT_EQ(valid(p) & 2U, 2U);
    EXPECT_NE(flags(p) & GM_PAGE_LEASED, 0U);
  }
  EXPECT_EQ(flags(b) & GM_PAGE_LEASED, 0U) << "a page beside the range";
  kernel_set(s, a, page, 11);
  end(scope);
  finish(s);
  EXPECT_TRUE(all_are(a, page, 11));
}

TEST_P(scopes, ranges_of_one_scope_may_share_pages) {
  byte* p = make_written(2 * page);
  gm_stream s = stream();
  const gm_access accesses[] = {{p, 100, GM_READ}, {p + 50, page, GM_WRITE}, {p, 2 * page, GM_READ}};
  gm_scope scope = nullptr;
  ASSERT_EQ(gm_access_begin(s, accesses, 3, &scope), GM_OK) << gm_last_error();
  kernel_set(s, p + 50, page, 9);
  end(scope);
  finish(s);
  EXPECT_TRUE(all_are(p, 50, 1));
  EXPECT_TRUE(all_are(p + 50, page, 9));
  EXPECT_TRUE(all_are(p + 50 + page, page - 50, 2));
}

TEST_P(scopes, more_than_the_budget_moves_nothing) {
  byte* p = make(9 * block);
  byte* other = make_written(page);
  gm_stream s = stream();
  (void)device_reads(s, other, page);
  for (std::size_t i = 0; i < 9 * block; i += page) touch_write(p + i, 5);
  ASSERT_EQ(gm_stats_reset(), GM_OK);
  EXPECT_EQ(try_begin(s, p, 9 * block, GM_READ), GM_ERROR_NO_MEMORY);
  expect_error("GM_DEVICE_BUDGET");
  EXPECT_EQ(gm_prefetch(p, 9 * block, 1, nullptr), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(gm_pin(p, 9 * block, 1), GM_ERROR_NO_MEMORY);
  const gm_stats now = stats();
  EXPECT_EQ(now.node[1].pages_in + now.node[0].pages_in + now.node[1].evictions, 0U);
  EXPECT_EQ(resident(other, page, 1), page);
  EXPECT_EQ(flags(p), GM_PAGE_CPU);
  touch_write(p, 6);  // nothing waits
}

TEST_P(scopes, what_ones_own_open_scopes_leave_no_room_for_is_refused_and_nothing_moves) {
  byte* held = make_written(6 * block);
  byte* idle = make_written(block);
  byte* more = make_written(3 * block);
  gm_stream s = stream();
  gm_scope scope = begin(s, held, 6 * block, GM_READ);
  ASSERT_EQ(gm_prefetch(idle, block, 1, nullptr), GM_OK);
  ASSERT_EQ(gm_stats_reset(), GM_OK);
  EXPECT_EQ(try_begin(s, more, 3 * block, GM_READ), GM_ERROR_NO_MEMORY);
  EXPECT_EQ(resident(idle, block, 1), block);
  EXPECT_EQ(stats().node[1].evictions, 0U);
  EXPECT_EQ(try_begin(s, make(2 * block), 2 * block, GM_READ), GM_OK) << "that fits";
  end(scope);
}

TEST_P(scopes, ones_own_open_conflicting_scope_is_busy) {
  byte* p = make_written(2 * page);
  gm_stream s = stream();
  gm_scope writing = begin(s, p, page, GM_READ_WRITE);
  EXPECT_EQ(try_begin(s, p, page, GM_READ), GM_ERROR_BUSY);
  expect_error("end it first");
  EXPECT_EQ(try_begin(s, p, 2 * page, GM_READ), GM_ERROR_BUSY);
  EXPECT_EQ(try_begin(s, p + page, page, GM_WRITE), GM_OK) << "another page";
  EXPECT_EQ(gm_prefetch(p, page, GM_HOST, nullptr), GM_ERROR_BUSY);
  EXPECT_EQ(gm_memset(p, 1, page, GM_HOST, nullptr), GM_ERROR_BUSY);
  EXPECT_EQ(gm_discard(p, page), GM_ERROR_BUSY);
  EXPECT_EQ(gm_realloc(p, block), nullptr);
  end(writing);
  gm_scope reading = begin(s, p, page, GM_READ);
  EXPECT_EQ(try_begin(s, p, page, GM_READ), GM_OK) << "readers share";
  EXPECT_EQ(try_begin(s, p, page, GM_READ_WRITE), GM_ERROR_BUSY);
  end(reading);
}

TEST_P(scopes, behind_one_that_has_ended_the_stream_waits_and_the_host_does_not) {
  byte* p = make_written(block, 0);
  for (const int second_node : {1, 2}) {
    gm_stream first = stream(1);
    gm_stream second = stream(second_node);
    std::vector<byte> got(page, 0);
    {
      gate g(first);
      gm_scope writing = begin(first, p, page, GM_READ_WRITE);
      kernel_set(first, p, page, 40 + second_node);
      end(writing);
      gm_scope reading = begin(second, p, page, GM_READ);  // returns while the gate is shut
      const auto* from = static_cast<const byte*>(gm_device_pointer(p, second_node));
      ASSERT_NE(from, nullptr);
      ASSERT_EQ(
          gm_stream_launch(second, page, kernel_work::run, kernel_work::forget, new kernel_work{got.data(), from, 0}),
          GM_OK);
      end(reading);
      EXPECT_TRUE(all_are(got, 0)) << "it waits";
      EXPECT_NE(flags(p) & GM_PAGE_LEASED, 0U);
      g.open();
    }
    finish(second);
    EXPECT_TRUE(all_are(got, 40 + second_node));
    finish(first);
    EXPECT_EQ(flags(p) & GM_PAGE_LEASED, 0U);
  }
}

TEST_P(scopes, one_open_in_another_thread_is_waited_for) {
  byte* p = make_written(page);
  gm_stream first = stream();
  gm_stream second = stream();
  gm_scope writing = begin(first, p, page, GM_READ_WRITE);
  std::atomic<bool> begun{false};
  std::thread other([&] {
    gm_scope reading = begin(second, p, page, GM_READ);
    begun = true;
    end(reading);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(begun);
  end(writing);
  other.join();
  EXPECT_TRUE(begun);
}

TEST_P(scopes, without_a_stream_all_is_there_when_it_returns) {
  byte* p = make_written(2 * block);
  gm_scope scope = begin(nullptr, p, 2 * block, GM_READ_WRITE);
  auto* there = static_cast<byte*>(gm_device_pointer(p, 1));  // the simulated device's memory is ours to look at
  ASSERT_NE(there, nullptr);
  EXPECT_EQ(there[0], 1);
  EXPECT_EQ(there[2 * block - 1], 64);
  there[block] = 222;
  end(scope);
  EXPECT_EQ(p[block], 222);
}

TEST_P(scopes, device_addresses_keep_their_promise) {
  byte* p = make_written(3 * block);
  byte* neighbour = make_written(page);
  byte* small = make_written(page);
  ASSERT_EQ(reinterpret_cast<std::uintptr_t>(neighbour) / block, reinterpret_cast<std::uintptr_t>(small) / block);
  const bool window = GetParam().window;
  EXPECT_EQ(gm_device_pointer(p, 1) != nullptr, window) << "outside a scope";
  gm_stream s = stream();
  gm_scope scope = begin(s, p + block, page, GM_READ);
  gm_scope small_scope = begin(s, small, page, GM_READ);
  auto* there = static_cast<byte*>(gm_device_pointer(p + block, 1));
  ASSERT_NE(there, nullptr);
  EXPECT_EQ(gm_device_pointer(p + block + 77, 1), there + 77);
  EXPECT_NE(gm_device_pointer(small, 1), nullptr);
  EXPECT_EQ(gm_device_pointer(neighbour, 1) != nullptr, window) << "of the same block, and in no scope";
  if (window) EXPECT_EQ(gm_device_pointer(p, 1), there - block) << "one constant";
  end(scope);
  end(small_scope);
  finish(s);
  EXPECT_EQ(gm_device_pointer(p + block, 1), window ? there : nullptr);
}

TEST_P(scopes, an_allocation_is_contiguous_there) {
  byte* p = make_written(4 * block);
  gm_stream s = stream();
  gm_scope scope = begin(s, p, 4 * block, GM_READ_WRITE);
  auto* there = static_cast<byte*>(gm_device_pointer(p, 1));
  for (std::size_t i = 0; i < 4 * block; i += page) EXPECT_EQ(gm_device_pointer(p + i, 1), there + i);
  end(scope);
}

TEST_P(scopes, a_stream_with_an_open_scope_is_not_destroyed) {
  byte* p = make_written(page);
  gm_stream s = nullptr;
  ASSERT_EQ(gm_stream_create(1, &s), GM_OK);
  gm_scope scope = begin(s, p, page, GM_READ);
  EXPECT_EQ(gm_stream_destroy(s), GM_ERROR_BUSY);
  expect_error("1 scopes are open");
  end(scope);
  EXPECT_EQ(gm_stream_destroy(s), GM_OK);
}

TEST_P(scopes, memory_freed_while_a_kernel_uses_it_is_released_by_its_fence) {
  byte* p = make_written(block);
  gm_stream s = stream();
  {
    gate g(s);
    gm_scope scope = begin(s, p, block, GM_READ_WRITE);
    kernel_set(s, p, block, 1);
    end(scope);
    free(p);  // waits for no one
    gm_mapping m;
    EXPECT_EQ(gm_query(p, &m), GM_ERROR_NOT_MANAGED);
    EXPECT_EQ(stats().node[1].frames_used, 1U) << "the kernel still has it";
    byte* q = make(block);
    EXPECT_NE(q, p) << "nor are the addresses anybody's";
    g.open();
  }
  finish(s);
  EXPECT_EQ(stats().node[1].frames_used, 0U);
}

TEST_P(scopes, a_copy_that_fails_at_once_fails_the_call_and_leaves_all_as_it_was) {
  byte* p = make_written(2 * block);
  debug_fail_device(device::operation::copy_run, 1);
  EXPECT_EQ(try_begin(nullptr, p, 2 * block, GM_READ_WRITE), GM_ERROR_DEVICE);
  debug_fail_device(device::operation::copy_submit, 1);
  EXPECT_EQ(try_begin(nullptr, p, 2 * block, GM_WRITE), GM_OK) << "which copies nothing";
  EXPECT_EQ(try_begin(nullptr, p, 2 * block, GM_READ), GM_OK);
  debug_fail_device(device::operation::copy_submit, 0);
}

TEST_P(scopes, after_a_failed_begin_the_bytes_stand_and_nothing_is_leased) {
  byte* p = make_written(2 * block);
  for (const auto what :
       {device::operation::piece_create, device::operation::copy_submit, device::operation::copy_run}) {
    debug_fail_device(what, 1);
    EXPECT_NE(try_begin(nullptr, p, 2 * block, GM_READ_WRITE), GM_OK);
    debug_fail_device(what, 0);
    EXPECT_EQ(flags(p) & GM_PAGE_LEASED, 0U);
    for (std::size_t i = 0; i < 2 * block; i += page) ASSERT_EQ(p[i], 1 + i / page);
    expect_valid();
  }
  inject::fail_nth(inject::point::record_memory, 1);
  EXPECT_EQ(try_begin(nullptr, p, 2 * block, GM_READ_WRITE), GM_ERROR_NO_MEMORY);
  inject::fail_nth(inject::point::record_memory, 0);
  EXPECT_EQ(try_begin(nullptr, p, 2 * block, GM_READ_WRITE), GM_OK);
}

TEST_P(scopes, a_copy_that_fails_later_keeps_its_kernels_from_running) {
  byte* p = make_written(block);
  byte* out = make_written(page, 70);
  gm_stream s = stream();
  debug_fail_device(device::operation::copy_run, 1);
  const gm_access accesses[] = {{p, block, GM_READ}, {out, page, GM_READ_WRITE}};
  gm_scope scope = nullptr;
  gm_status result = gm_access_begin(s, accesses, 2, &scope);
  if (result == GM_OK) {
    kernel_set(s, out, page, 1);
    result = gm_access_end(scope);
    const gm_status later = gm_stream_synchronize(s);
    EXPECT_TRUE(result == GM_ERROR_DEVICE || later == GM_ERROR_DEVICE);
  } else {
    EXPECT_EQ(result, GM_ERROR_DEVICE);
  }
  debug_fail_device(device::operation::copy_run, 0);
  settle();
  EXPECT_TRUE(all_are(out, page, 70)) << "the kernel did not run";
  EXPECT_TRUE(all_are(p, page, 1));
  device_writes(s, out, page, 2);
  EXPECT_TRUE(all_are(out, page, 2)) << "and the next one does";
}

}  // namespace
}  // namespace gm::test
