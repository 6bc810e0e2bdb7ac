// SPDX-License-Identifier: Apache-2.0
// running_unit(): while a thread is inside a function of a stream's, the backend says which unit that is; otherwise,
// that there is none.
#include <sys/syscall.h>
#include <unistd.h>

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

std::int32_t this_thread() { return static_cast<std::int32_t>(syscall(SYS_gettid)); }

// A function that asks what its own thread is running.
struct looks_at_itself {
  const backend_table* table;
  stream* on;
  std::atomic<int> looks{0};
  std::atomic<int> wrong{0};
  std::atomic<std::uint64_t> position{0};  // seen last

  void look() {
    const fence unit = table->running_unit(this_thread());
    if (unit.stream != on) ++wrong;
    position = unit.position;
    ++looks;
  }
  static void body(void* self, std::size_t, std::size_t) { static_cast<looks_at_itself*>(self)->look(); }
  static void once(void* self) { static_cast<looks_at_itself*>(self)->look(); }
};

class running_unit_test : public backend_test {
 protected:
  void SetUp() override {
    backend_test::SetUp();
    if (!is_unusable() && table->running_unit == nullptr) GTEST_SKIP() << "stream work does not run on the host";
  }
};
GM_ON_EVERY_FLAVOUR(running_unit_test);

TEST_P(running_unit_test, is_the_calls_between_the_fences_around_it) {
  stream* on = create_stream();
  looks_at_itself seen{table, on};
  for (int round = 0; round < 50; ++round) {
    const fence before = record_fence(on);
    ASSERT_EQ(table->call(on, &looks_at_itself::once, &seen), GM_OK);
    const fence after = record_fence(on);
    table->fence_wait(after);
    EXPECT_GT(seen.position, before.position);
    EXPECT_LE(seen.position, after.position);
  }
  EXPECT_EQ(seen.looks, 50);
  EXPECT_EQ(seen.wrong, 0);
}

TEST_P(running_unit_test, is_the_kernels_and_its_finish_functions) {
  if (!can(has_host_launch)) GTEST_SKIP() << "no kernels on the host";
  stream* on = create_stream();
  looks_at_itself seen{table, on};
  const fence before = record_fence(on);
  ASSERT_EQ(table->launch(on, 5000, &looks_at_itself::body, &looks_at_itself::once, &seen), GM_OK);
  const fence after = record_fence(on);
  table->fence_wait(after);
  EXPECT_GT(seen.position, before.position);
  EXPECT_LE(seen.position, after.position);
  EXPECT_GE(seen.looks, 2);
  EXPECT_EQ(seen.wrong, 0);
}

TEST_P(running_unit_test, is_each_streams_own) {
  // All of them inside their functions at once, each asked from outside as well.
  struct asked {
    gate held;
    std::atomic<std::int32_t> thread{0};
    static void run(void* self) {
      auto* const to = static_cast<asked*>(self);
      to->thread = this_thread();
      gate::pass(&to->held);
    }
  };
  std::vector<std::unique_ptr<asked>> all;
  std::vector<stream*> streams;
  for (std::size_t i = 0; i < 6; ++i) {
    streams.push_back(create_stream(stream_ordinary, i % devices.size()));
    all.push_back(std::make_unique<asked>());
    ASSERT_EQ(table->call(streams[i], &asked::run, all[i].get()), GM_OK);
  }
  for (const auto& each : all) each->held.wait_entered();
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(table->running_unit(all[i]->thread).stream, streams[i]);
  for (const auto& each : all) each->held.open();
  for (stream* each : streams) EXPECT_EQ(table->stream_synchronize(each), GM_OK) << error();
  for (const auto& each : all) EXPECT_EQ(table->running_unit(each->thread), fence{}) << "it has returned";
}

TEST_P(running_unit_test, is_none_where_nothing_of_a_streams_runs) {
  stream* on = create_stream();
  EXPECT_EQ(table->running_unit(this_thread()), fence{});
  // Nor does a function that ends with an exception leave a mark.
  std::atomic<std::int32_t> thread{0};
  const auto throws = [](void* to) {
    static_cast<std::atomic<std::int32_t>*>(to)->store(this_thread());
    throw 1;
  };
  ASSERT_EQ(table->call(on, throws, &thread), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_NE(thread, 0);
  EXPECT_EQ(table->running_unit(thread), fence{});
}

}  // namespace
}  // namespace gm::conformance
