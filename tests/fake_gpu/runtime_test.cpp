// SPDX-License-Identifier: Apache-2.0
// The whole runtime over the fake GPU, which passes for CUDA: one address on both sides, kernels on native streams,
// random work against an oracle, and a device that is lost.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>

#include "fake_gpu/fake_gpu_fixture.h"
#include "unit/running_gmem.h"
#include "unit/seeded.h"

namespace gm::test {
namespace {

using conformance::load_controls;

class gpu_runtime_test : public running_gmem {
 protected:
  void start_on(const char* machine) {
    setenv("GM_FAKE_GPU", machine, 1);
    gpu = load_controls();
    ASSERT_NE(gpu, nullptr);
    gm_options options = small_options();
    options.backend = "cuda";
    start(options);
  }
  void TearDown() override {
    running_gmem::TearDown();
    if (gpu != nullptr) {
      EXPECT_EQ(gpu->count(), fake_gpu::census{});
    }
  }

  static gm_node_info node(int which = 1) {
    gm_node_info result{};
    EXPECT_EQ(gm_node_info_get(which, &result), GM_OK) << gm_last_error();
    return result;
  }

  // A kernel: adds one to every byte, by device addresses.
  struct increment {
    const fake_gpu::controls* gpu;
    int device;
    std::uint64_t address;
    std::size_t bytes;
    static void run(void* argument) {
      auto* const self = static_cast<increment*>(argument);
      std::vector<byte> data(self->bytes);
      EXPECT_TRUE(self->gpu->read(self->device, self->address, data.data(), data.size()));
      for (byte& each : data) ++each;
      EXPECT_TRUE(self->gpu->write(self->device, self->address, data.data(), data.size()));
      delete self;
    }
  };
  void launch_increment(gm_stream on, void* p, std::size_t bytes) {
    gm_native_stream native{};
    ASSERT_EQ(gm_stream_native(on, &native), GM_OK) << gm_last_error();
    EXPECT_STREQ(native.backend, "fakegpu");
    EXPECT_EQ(native.device, gm_stream_node(on) - 1);
    EXPECT_EQ(native.has_failed, 0);
    void* const address = gm_device_pointer(p, gm_stream_node(on));
    ASSERT_NE(address, nullptr) << gm_last_error();
    auto* const kernel = new increment{gpu, native.device, reinterpret_cast<std::uint64_t>(address), bytes};
    ASSERT_TRUE(gpu->launch(native.stream, &increment::run, kernel));
  }

  const fake_gpu::controls* gpu = nullptr;
};

// ---- One address ---------------------------------------------------------------------------------------------------

TEST_F(gpu_runtime_test, a_pointer_is_the_same_on_both_sides) {
  ASSERT_NO_FATAL_FAILURE(start_on("devices=2"));
  EXPECT_EQ(node(1).has_window, 1);
  EXPECT_EQ(node(1).same_address, 1);
  EXPECT_EQ(node(2).has_window, 1);
  EXPECT_EQ(node(2).same_address, 0) << "there is one arena";
  byte* const p = make_written(3 * mib);
  EXPECT_EQ(gm_device_pointer(p + 12345, 1), p + 12345);
  const auto distance = static_cast<byte*>(gm_device_pointer(p, 2)) - p;
  EXPECT_NE(distance, 0);
  EXPECT_EQ(static_cast<byte*>(gm_device_pointer(p + 2 * mib, 2)) - (p + 2 * mib), distance);
  // The same address, and two memories behind it.
  ASSERT_EQ(gm_prefetch(p, 3 * mib, 1, nullptr), GM_OK) << gm_last_error();
  byte seen = 0;
  ASSERT_TRUE(gpu->read(0, reinterpret_cast<std::uint64_t>(p) + page, &seen, 1));
  EXPECT_EQ(seen, 2);
  p[page] = 99;
  ASSERT_TRUE(gpu->read(0, reinterpret_cast<std::uint64_t>(p) + page, &seen, 1));
  EXPECT_EQ(seen, 2) << "the device's bytes are stale, and its own";
  EXPECT_EQ(p[page], 99);
}

TEST_F(gpu_runtime_test, a_driver_that_mixes_up_the_two_sides_is_found_out) {
  ASSERT_NO_FATAL_FAILURE(start_on("leaks=1"));
  EXPECT_EQ(node().has_window, 1);
  EXPECT_EQ(node().same_address, 0);
}

TEST_F(gpu_runtime_test, without_a_window_there_is_one_piece_an_allocation) {
  ASSERT_NO_FATAL_FAILURE(start_on("maps=0"));
  EXPECT_EQ(node().has_window, 0);
  EXPECT_EQ(node().same_address, 0);
  byte* const p = make_written(5 * mib);
  EXPECT_EQ(gm_device_pointer(p, 1), nullptr);
  gm_stream s = stream();
  gm_scope scope = begin(s, p, 5 * mib, GM_READ_WRITE);
  ASSERT_NO_FATAL_FAILURE(launch_increment(s, p, 5 * mib));
  end(scope);
  EXPECT_EQ(p[0], 2);
  EXPECT_EQ(p[5 * mib - 1], 81);
}

TEST_F(gpu_runtime_test, the_arenas_addresses_go_back_to_the_device) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_NO_FATAL_FAILURE(start_on(""));
    byte* const p = make(mib);
    p[0] = 1;
    ASSERT_NO_FATAL_FAILURE(TearDown());
  }
}

TEST_F(gpu_runtime_test, no_driver_is_no_device) {
  setenv("GM_FAKE_GPU", "driver=0", 1);
  gm_options options = small_options();
  options.backend = "cuda";
  EXPECT_EQ(gm_init(&options), GM_ERROR_UNSUPPORTED);
  expect_error("there is no fake driver here");
  options.backend = "auto";
  EXPECT_EQ(gm_init(&options), GM_ERROR_UNSUPPORTED) << "nor is there any other backend in this folder";
}

// ---- Kernels -------------------------------------------------------------------------------------------------------

TEST_F(gpu_runtime_test, kernels_on_the_native_stream_work_on_what_a_scope_brings) {
  for (const char* machine : {"", "maps=0", "waits=0", "delay_us=100"}) {
    ASSERT_NO_FATAL_FAILURE(start_on(machine));
    byte* const p = make_written(4 * mib);
    gm_stream s = stream();
    for (int round = 0; round < 5; ++round) {
      gm_scope scope = begin(s, p, 4 * mib, GM_READ_WRITE);
      ASSERT_NO_FATAL_FAILURE(launch_increment(s, p, 4 * mib));
      ASSERT_NO_FATAL_FAILURE(launch_increment(s, p, 4 * mib));
      end(scope);
      // The CPU waits for the kernels and no more.
      for (std::size_t i = 0; i < 4 * mib; i += page)
        ASSERT_EQ(p[i], static_cast<byte>(1 + i / page + 2 * (round + 1)));
    }
    ASSERT_NO_FATAL_FAILURE(TearDown());
  }
}

TEST_F(gpu_runtime_test, host_kernels_have_no_native_stream_and_the_other_way_round) {
  ASSERT_NO_FATAL_FAILURE(start_on(""));
  gm_stream s = stream();
  EXPECT_EQ(gm_stream_launch(
                s, 1, [](void*, std::size_t, std::size_t) {}, nullptr, nullptr),
            GM_ERROR_UNSUPPORTED);
  EXPECT_EQ(gm_stream_native(s, nullptr), GM_ERROR_INVALID_ARGUMENT);
  gm_native_stream native{};
  EXPECT_EQ(gm_stream_native(nullptr, &native), GM_ERROR_INVALID_ARGUMENT);
}

TEST_F(gpu_runtime_test, a_call_may_touch_memory_that_is_on_the_device) {
  ASSERT_NO_FATAL_FAILURE(start_on(""));
  byte* const p = make_written(2 * mib);
  ASSERT_EQ(gm_prefetch(p, 2 * mib, 1, nullptr), GM_OK);
  gm_stream s = stream();
  const auto add = [](void* memory) {
    for (std::size_t i = 0; i < 2 * mib; i += page) ++static_cast<byte*>(memory)[i];
  };
  ASSERT_EQ(gm_stream_call(s, add, p), GM_OK) << gm_last_error();
  finish(s);
  EXPECT_EQ(p[0], 2);
  EXPECT_EQ(p[31 * page], 33);
}

// Its scope would wait for the function, and the function for its scope.
TEST_F(gpu_runtime_test, a_call_that_touches_its_own_streams_scope_is_told) {
  struct toucher {
    byte* host;
    std::atomic<int> signal{-1};
    static void call(void* argument) {
      auto* const self = static_cast<toucher*>(argument);
      self->signal = catch_signals::during([&] { touch_write(self->host, 1); });
    }
  };
  for (const char* machine : {"", "maps=0", "waits=0"}) {
    ASSERT_NO_FATAL_FAILURE(start_on(machine));
    byte* const p = make_written(page);
    gm_stream s = stream();
    for (const bool is_open : {true, false}) {
      toucher touch{p};
      testing::internal::CaptureStderr();
      gm_scope scope = begin(s, p, page, GM_READ_WRITE);
      ASSERT_NE(scope, nullptr) << gm_last_error();
      ASSERT_EQ(gm_stream_call(s, toucher::call, &touch), GM_OK) << gm_last_error();
      while (is_open && touch.signal == -1) std::this_thread::yield();
      end(scope);
      finish(s);
      const std::string said = testing::internal::GetCapturedStderr();
      EXPECT_EQ(touch.signal, SIGBUS);
      EXPECT_NE(said.find("gm_device_pointer"), std::string::npos) << said;
    }
    EXPECT_EQ(p[0], 1) << "nothing was written";
    ASSERT_NO_FATAL_FAILURE(TearDown());
  }
}

TEST_F(gpu_runtime_test, a_call_that_touches_another_streams_scope_just_waits) {
  ASSERT_NO_FATAL_FAILURE(start_on(""));
  byte* const p = make_written(page);
  gm_stream holder = stream();
  gm_stream caller = stream();
  gm_scope scope = begin(holder, p, page, GM_READ_WRITE);
  const std::uint64_t parked = stats().parked_faults;
  const auto touch = [](void* memory) { touch_write(memory, 9); };
  ASSERT_EQ(gm_stream_call(caller, touch, p), GM_OK);
  while (stats().parked_faults == parked) std::this_thread::yield();
  end(scope);
  finish(caller);
  finish(holder);
  EXPECT_EQ(p[0], 9);
}

// ---- Drivers that wait when memory is given back
// ---------------------------------------------------------------------

class gpu_waiting_free_test : public gpu_runtime_test, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(fake_gpu, gpu_waiting_free_test, testing::Values("free_waits=1", "free_waits=1,maps=0"));

// The free is carried out by a callback of the stream, and behind it stands a step that only the stream's thread takes.
TEST_P(gpu_waiting_free_test, frees_behind_scopes_hold_up_no_stream) {
  ASSERT_NO_FATAL_FAILURE(start_on(GetParam()));
  gm_stream s = stream();
  const auto nap = [](void*) { std::this_thread::sleep_for(std::chrono::milliseconds(5)); };
  for (int round = 0; round < 10; ++round) {
    byte* const p = make_written(4 * mib);
    ASSERT_EQ(gm_stream_call(s, nap, nullptr), GM_OK);
    end(begin(s, p, 4 * mib, GM_READ_WRITE));
    free(p);
    ASSERT_EQ(gm_stream_call(s, nap, nullptr), GM_OK);
  }
  finish(s);
}

TEST_P(gpu_waiting_free_test, nor_do_copies_and_evictions) {
  ASSERT_NO_FATAL_FAILURE(start_on(GetParam()));
  gm_stream s = stream();
  const std::vector<byte> source(4 * mib, 5);
  for (int round = 0; round < 20; ++round) {
    byte* const p = make(4 * mib);
    ASSERT_EQ(gm_memcpy(p, source.data(), source.size(), 1, s), GM_OK) << gm_last_error();
    end(begin(s, p, 4 * mib, GM_READ_WRITE));
    if (round % 2 == 0) free(p);  // the others are evicted: five fit
  }
  finish(s);
}

// ---- Random work ---------------------------------------------------------------------------------------------------

class gpu_random_test : public gpu_runtime_test, public testing::WithParamInterface<const char*> {};

TEST_P(gpu_random_test, memory_is_what_a_plain_array_says) {
  ASSERT_NO_FATAL_FAILURE(start_on(GetParam()));
  rng random(seed());
  const auto below = [&](std::size_t end) { return test::below(random, end); };
  constexpr std::size_t allocations = 5;
  constexpr std::size_t most_bytes = 6 * mib;  // more than the device's 16 MiB in all
  struct array {
    byte* managed;
    std::vector<byte> plain;
  };
  std::vector<array> arrays;
  for (std::size_t i = 0; i < allocations; ++i) {
    const std::size_t bytes = most_bytes - below(64 * kib);
    arrays.push_back({make(bytes), std::vector<byte>(bytes)});
    std::memset(arrays.back().managed, 0, bytes);
  }
  std::vector<gm_stream> streams;
  for (int n = 1; n < gm_node_count(); ++n) {
    streams.push_back(stream(n));
    streams.push_back(stream(n));
  }
  const int steps = scaled(400);
  for (int step = 0; step < steps; ++step) {
    array& a = arrays[below(allocations)];
    const std::size_t at = below(a.plain.size());
    const std::size_t bytes =
        1 + below(std::min<std::size_t>(a.plain.size() - at, below(8) == 0 ? most_bytes : 200 * kib));
    gm_stream s = streams[below(streams.size())];
    switch (below(6)) {
      case 0:
        for (std::size_t i = 0; i < bytes; i += 1 + below(5000))
          a.managed[at + i] = a.plain[at + i] = static_cast<byte>(step);
        break;
      case 1:
        ASSERT_EQ(std::memcmp(a.managed + at, a.plain.data() + at, bytes), 0) << "step " << step;
        break;
      case 2:
        ASSERT_EQ(gm_prefetch(a.managed + at, bytes, below(3) == 0 ? GM_HOST : gm_stream_node(s), s), GM_OK)
            << gm_last_error();
        break;
      case 3: {
        gm_scope scope = begin(s, a.managed + at, bytes, GM_READ_WRITE);
        ASSERT_NE(scope, nullptr) << gm_last_error();
        ASSERT_NO_FATAL_FAILURE(launch_increment(s, a.managed + at, bytes));
        end(scope);
        for (std::size_t i = 0; i < bytes; ++i) ++a.plain[at + i];
        break;
      }
      case 4:
        ASSERT_EQ(gm_memset(a.managed + at, step, bytes, gm_stream_node(s), s), GM_OK) << gm_last_error();
        std::memset(a.plain.data() + at, step, bytes);
        break;
      case 5: {
        const array& from = arrays[below(allocations)];
        if (&from == &a) break;
        const std::size_t part = std::min(bytes, from.plain.size() / 2);
        const std::size_t source = below(from.plain.size() - part);
        ASSERT_EQ(gm_memcpy(a.managed + at, from.managed + source, part, gm_stream_node(s), s), GM_OK)
            << gm_last_error();
        std::memcpy(a.plain.data() + at, from.plain.data() + source, part);
        break;
      }
    }
  }
  for (const array& a : arrays) EXPECT_EQ(std::memcmp(a.managed, a.plain.data(), a.plain.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(fake_gpu, gpu_random_test,
                         testing::Values("", "maps=0", "waits=0", "batches=0", "leaks=1", "devices=2",
                                         "devices=2,peers=0", "devices=2,maps=0", "delay_us=30", "free_waits=1",
                                         "free_waits=1,maps=0"));

// ---- A lost device -------------------------------------------------------------------------------------------------

TEST_F(gpu_runtime_test, a_lost_device_is_an_error_and_host_data_stays) {
  ASSERT_NO_FATAL_FAILURE(start_on(""));
  byte* const both = make_written(2 * mib);
  byte* const host = make_written(2 * mib, 7);
  ASSERT_EQ(gm_prefetch(both, 2 * mib, 1, nullptr), GM_OK);
  byte* const lost = make_written(2 * mib, 3);
  gm_stream s = stream();
  gm_scope written = begin(s, lost, 2 * mib, GM_READ_WRITE);
  end(written);
  finish(s);
  ASSERT_EQ(valid(lost), 2U);
  gpu->lose(0);
  EXPECT_EQ(catch_signals::during([&] { touch_read(lost + page); }), SIGBUS) << "its only copy was there";
  const gm_access access{host, 2 * mib, GM_READ_WRITE};
  gm_scope scope = nullptr;
  EXPECT_EQ(gm_access_begin(s, &access, 1, &scope), GM_ERROR_DEVICE);
  expect_error("has fallen off the bus");
  EXPECT_EQ(gm_prefetch(host, 2 * mib, 1, nullptr), GM_ERROR_DEVICE);
  EXPECT_EQ(gm_stream_synchronize(s), GM_ERROR_DEVICE);
  EXPECT_EQ(host[page], 8);
  EXPECT_EQ(both[page], 2) << "a prefetch leaves the host's copy valid";
  host[page] = 1;
  gm_native_stream native{};
  ASSERT_EQ(gm_stream_native(s, &native), GM_OK);
  EXPECT_EQ(native.has_failed, 1);
}

}  // namespace
}  // namespace gm::test
