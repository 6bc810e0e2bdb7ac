// SPDX-License-Identifier: Apache-2.0
// backend_fixture.h - what every conformance test stands on: flavours, an opened backend, and things that watch work.
//
//   flavour          one backend with one set of options; every test runs on every flavour
//   backend_session  an opened backend with all its devices; owns what tests create, and gives it back in order
//   backend_test     the session of the test's flavour
//   outcome, order_log, gate   count callbacks, keep their order, hold a stream
//
// A new backend is one more flavour in flavours(). Tests reach device memory through copies alone; those that touch it
// from the host, or rely on the simulated device's own promises, ask is_sim() first; those that count free memory ask
// owns_the_machine(). GM_CONFORMANCE_BACKEND=cuda runs them all on that backend instead, and skips where it has no
// device. The backends lie beside the test program, or in the folder that GM_CONFORMANCE_BACKEND_DIR names.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "device/backend.h"

namespace gm::conformance {

using namespace gm::device;

inline constexpr std::uint64_t kib = 1024;
inline constexpr std::uint64_t mib = 1024 * kib;
inline constexpr std::uint64_t frame_bytes = 2 * mib;

using bytes = std::vector<std::uint8_t>;

// ---- Flavours ------------------------------------------------------------------------------------------------------

struct flavour {
  const char* name;
  const char* backend;
  backend_options options;
  const char* machine = nullptr;  // of the fake GPU: GM_FAKE_GPU, see fake_gpu/machine.h
  bool may_be_absent = false;
};

inline std::string name_of_flavour(const testing::TestParamInfo<flavour>& which) { return which.param.name; }

inline void PrintTo(const flavour& which, std::ostream* out) { *out << which.name; }

inline backend_options sim_options() {
  backend_options options{};
  options.arena_bytes = 256 * mib;
  options.sim_devices = 1;
  options.sim_memory_bytes = 32 * mib;
  options.sim_window = true;
  return options;
}

inline std::vector<flavour> flavours() {
  if (const char* real = std::getenv("GM_CONFORMANCE_BACKEND")) return {{real, real, sim_options(), nullptr, true}};
  backend_options window = sim_options();
  backend_options no_window = sim_options();
  no_window.sim_window = false;
  no_window.arena_bytes = 0;
  backend_options link = sim_options();
  link.sim_bandwidth_bytes_per_second = 16'000'000'000;
  link.sim_latency_ns = 2'000;
  backend_options several = sim_options();
  several.sim_devices = 3;
  // What the GPU backends share, over a driver made of memory and threads. Links are sim's alone.
  const backend_options gpu = sim_options();
  return {{"sim_window", "sim", window},
          {"sim_no_window", "sim", no_window},
          {"sim_link", "sim", link},
          {"sim_devices", "sim", several},
          {"gpu_window", "fakegpu", gpu, ""},
          {"gpu_no_window", "fakegpu", gpu, "maps=0"},
          {"gpu_blocking_gates", "fakegpu", gpu, "waits=0,batches=0"},
          {"gpu_devices", "fakegpu", gpu, "devices=3"},
          {"gpu_devices_apart", "fakegpu", gpu, "devices=2,peers=0,maps_for_real=0"},
          {"gpu_pageable", "fakegpu", gpu, "pins=0"},
          {"gpu_late", "fakegpu", gpu, "delay_us=100"}};
}

// The fake GPU passes for CUDA, in a folder of its own, where its own tests are too.
inline std::string file_of(const std::string& backend, const std::string& folder) {
  if (backend != "fakegpu") return folder + "/libgmem-" + backend + ".so";
  const std::string inside = folder + "/fake_gpu/libgmem-cuda.so";
  return access(inside.c_str(), R_OK) == 0 ? inside : folder + "/libgmem-cuda.so";
}

inline std::string backend_path(const std::string& backend) {
  if (const char* folder = std::getenv("GM_CONFORMANCE_BACKEND_DIR")) return file_of(backend, folder);
  char self[PATH_MAX] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0) return file_of(backend, ".");
  const std::string path = self;
  return file_of(backend, path.substr(0, path.rfind('/')));
}

// Null, with the loader's words in *error.
inline const backend_table* load_table(const std::string& backend, std::string* error) {
  void* object = dlopen(backend_path(backend).c_str(), RTLD_NOW | RTLD_LOCAL);
  void* entry = object == nullptr ? nullptr : dlsym(object, backend_entry_name);
  if (entry == nullptr) {
    *error = dlerror();
    return nullptr;
  }
  return reinterpret_cast<backend_entry>(entry)();
}

// ---- Watching work -------------------------------------------------------------------------------------------------

// How often a callback ran, and what it was told last.
struct outcome {
  std::atomic<int> calls{0};
  std::atomic<int> status{-1};

  static void record(void* self, gm_status result) {
    auto* const to = static_cast<outcome*>(self);
    to->status = result;
    ++to->calls;
  }
};

// Callbacks, calls and kernels by number, in the order in which they ran.
class order_log {
 public:
  struct entry {
    int number;
    gm_status status;
    bool operator==(const entry&) const = default;
  };
  struct ticket {
    order_log* log;
    int number;
  };

  // Valid as long as the log.
  ticket* ticket_for(int number) {
    const std::scoped_lock lock(mutex_);
    return tickets_.emplace_back(std::make_unique<ticket>(ticket{this, number})).get();
  }
  static void on_done(void* argument, gm_status status) {
    auto* const which = static_cast<ticket*>(argument);
    which->log->add(which->number, status);
  }
  static void on_call(void* argument) { on_done(argument, GM_OK); }

  void add(int number, gm_status status) {
    const std::scoped_lock lock(mutex_);
    entries_.push_back({number, status});
  }
  std::vector<entry> entries() const {
    const std::scoped_lock lock(mutex_);
    return entries_;
  }
  std::vector<int> numbers() const {
    std::vector<int> result;
    for (const entry& each : entries()) result.push_back(each.number);
    return result;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<entry> entries_;
  std::vector<std::unique_ptr<ticket>> tickets_;
};

inline std::vector<int> count_to(int end) {
  std::vector<int> result(static_cast<std::size_t>(end));
  for (int i = 0; i < end; ++i) result[static_cast<std::size_t>(i)] = i;
  return result;
}

// A call() that stays in its function until the gate is opened.
class gate {
 public:
  static void pass(void* self) { static_cast<gate*>(self)->pass(); }
  void open() {
    const std::scoped_lock lock(mutex_);
    is_open_ = true;
    changed_.notify_all();
  }
  // Until the stream stands in the gate.
  void wait_entered() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_entered_; });
  }

 private:
  void pass() {
    std::unique_lock lock(mutex_);
    is_entered_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return is_open_; });
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_entered_ = false;
  bool is_open_ = false;
};

// ---- An opened backend ---------------------------------------------------------------------------------------------

struct piece {
  gm::device::device* where;
  std::uint64_t offset;
  std::uint32_t frames;
  std::uint64_t address;
};

class backend_session {
 public:
  // Records fatal failures, and skips; callers ask is_unusable() of backend_test.
  void open_session(const flavour& which) {
    std::string error;
    if (which.machine != nullptr) setenv("GM_FAKE_GPU", which.machine, 1);
    table = load_table(which.backend, &error);
    ASSERT_NE(table, nullptr) << error;
    std::uint32_t count = 0;
    const gm_status found = table->open(&which.options, &opened, &count);
    if (found == GM_ERROR_UNSUPPORTED && which.may_be_absent) GTEST_SKIP() << table->error_text();
    ASSERT_EQ(found, GM_OK) << table->error_text();
    ASSERT_GE(count, 1u);
    for (std::uint32_t i = 0; i < count; ++i) {
      gm::device::device* device = nullptr;
      ASSERT_EQ(table->device_open(opened, i, &device), GM_OK) << table->error_text();
      ASSERT_NE(device, nullptr);
      devices.push_back(device);
    }
  }

  void close_session() {
    if (opened == nullptr) return;
    for (const auto& each : gates_) each->open();
    while (!streams_.empty()) destroy_stream(streams_.back());
    while (!pieces_.empty()) destroy_piece(pieces_.back());
    for (gm::device::device* each : devices) table->device_close(each);
    table->close(opened);
    opened = nullptr;
  }

  bool owns_the_machine() const { return is_sim() || std::string(table->name) == "fakegpu"; }
  bool is_sim() const { return std::string(table->name) == "sim"; }
  device_info info(gm::device::device* of) const {
    device_info result{};
    EXPECT_EQ(table->device_info_get(of, &result), GM_OK);
    return result;
  }
  bool can(capability what) const { return (info(devices[0]).capabilities & what) != 0; }
  std::string error() const { return table->error_text(); }

  stream* create_stream(std::uint32_t flags = stream_ordinary, std::size_t device_number = 0) {
    stream* result = nullptr;
    EXPECT_EQ(table->stream_create(devices[device_number], flags, &result), GM_OK) << error();
    EXPECT_NE(result, nullptr);
    streams_.push_back(result);
    return result;
  }
  void destroy_stream(stream* which) {
    std::erase(streams_, which);
    table->stream_destroy(which);
  }

  // The next block of the window, or the frames wherever they are.
  piece create_piece(std::uint32_t frames = 1, std::size_t device_number = 0) {
    return create_piece_at(next_block_++ * frame_bytes, frames, device_number);
  }
  piece create_piece_at(std::uint64_t offset, std::uint32_t frames = 1, std::size_t device_number = 0) {
    piece result{devices[device_number], offset, frames, 0};
    EXPECT_EQ(table->piece_create(result.where, offset, frames, &result.address), GM_OK) << error();
    EXPECT_NE(result.address, 0u);
    pieces_.push_back(result);
    return result;
  }
  void destroy_piece(const piece which) {
    std::erase_if(pieces_, [&](const piece& each) {
      return each.where == which.where && each.offset == which.offset && each.address == which.address;
    });
    table->piece_destroy(which.where, which.offset, which.frames, which.address);
  }

  // Holds the stream until the gate is opened, at the latest by the session's end.
  gate& close_gate(stream* on) {
    gate& made = *gates_.emplace_back(std::make_unique<gate>());
    EXPECT_EQ(table->call(on, &gate::pass, &made), GM_OK);
    return made;
  }

  fence record_fence(stream* on) {
    fence result;
    EXPECT_EQ(table->fence_record(on, nullptr, nullptr, &result), GM_OK) << error();
    return result;
  }
  void wait_all(stream* on) { table->fence_wait(record_fence(on)); }

  gm_status copy(stream* on, std::uint64_t destination, std::uint64_t source, std::uint64_t count, direction where,
                 callback done = nullptr, void* argument = nullptr, fence* completion = nullptr) {
    const copy_run run{destination, source, count, where};
    return table->transfer(on, nullptr, 0, &run, 1, done, argument, completion);
  }
  gm_status fill(stream* on, std::uint64_t destination, std::uint64_t count, std::uint8_t value,
                 callback done = nullptr, void* argument = nullptr, fence* completion = nullptr) {
    const fill_run run{destination, count, value};
    return table->transfer(on, &run, 1, nullptr, 0, done, argument, completion);
  }

  // Both are done when they return.
  void upload(stream* on, std::uint64_t destination, const bytes& data) {
    move(on, destination, address_of(data.data()), data.size(), direction::host_to_device);
  }
  bytes download(stream* on, std::uint64_t source, std::size_t count) {
    bytes result(count, 0xEE);
    move(on, address_of(result.data()), source, count, direction::device_to_host);
    return result;
  }

  static std::uint64_t address_of(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }

  const backend_table* table = nullptr;
  backend* opened = nullptr;
  std::vector<gm::device::device*> devices;

 private:
  void move(stream* on, std::uint64_t destination, std::uint64_t source, std::size_t count, direction where) {
    outcome result;
    fence completion;
    ASSERT_EQ(copy(on, destination, source, count, where, &outcome::record, &result, &completion), GM_OK) << error();
    table->fence_wait(completion);
    EXPECT_EQ(result.status, GM_OK);
  }

  std::uint64_t next_block_ = 0;
  std::vector<stream*> streams_;
  std::vector<piece> pieces_;
  std::vector<std::unique_ptr<gate>> gates_;
};

class backend_test : public testing::TestWithParam<flavour>, public backend_session {
 protected:
  void SetUp() override { open_session(GetParam()); }
  void TearDown() override { close_session(); }
  static bool is_unusable() { return HasFatalFailure() || IsSkipped(); }
};

// Different for every seed, and without a period that a misplaced run could hide in.
inline bytes random_bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 engine(seed);
  bytes result(count);
  for (std::uint8_t& each : result) each = static_cast<std::uint8_t>(engine());
  return result;
}

}  // namespace gm::conformance

// Runs a suite on every flavour.
#define GM_ON_EVERY_FLAVOUR(suite)                                                               \
  INSTANTIATE_TEST_SUITE_P(conformance, suite, testing::ValuesIn(::gm::conformance::flavours()), \
                           ::gm::conformance::name_of_flavour)
