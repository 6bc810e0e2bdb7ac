// SPDX-License-Identifier: Apache-2.0
// fake_gpu_fixture.h - a backend over the fake driver, with a hand on the driver itself.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>

#include "conformance/backend_fixture.h"
#include "fake_gpu/controls.h"
#include "fake_gpu/machine.h"

namespace gm::conformance {

using fake_gpu::api;
using fake_gpu::census;
using fake_gpu::controls;

// Of the object that load_table() loads; null where it is not there.
inline const controls* load_controls() {
  void* object = dlopen(backend_path("fakegpu").c_str(), RTLD_NOW | RTLD_LOCAL);
  void* entry = object == nullptr ? nullptr : dlsym(object, fake_gpu::controls_name);
  return entry == nullptr ? nullptr : reinterpret_cast<fake_gpu::controls_entry>(entry)();
}

// Each test says what machine it wants, and at the end the driver has everything back.
class fake_gpu_test : public testing::Test, public backend_session {
 protected:
  void open_machine(const std::string& machine) {
    gpu = load_controls();
    ASSERT_NE(gpu, nullptr);
    machine_ = machine;
    ASSERT_NO_FATAL_FAILURE(open_session({"fake", "fakegpu", sim_options(), machine_.c_str()}));
  }
  // Without its devices.
  void open_backend(const std::string& machine) {
    gpu = load_controls();
    ASSERT_NE(gpu, nullptr);
    setenv("GM_FAKE_GPU", machine.c_str(), 1);
    std::string why;
    table = load_table("fakegpu", &why);
    const backend_options options = sim_options();
    std::uint32_t count = 0;
    ASSERT_EQ(table->open(&options, &opened, &count), GM_OK) << error();
  }
  void TearDown() override {
    if (gpu == nullptr) return;
    for (int i = 0; i < static_cast<int>(api::count_); ++i) gpu->fail_call(i, 0);
    close_session();
    EXPECT_EQ(gpu->count(), census{});
    EXPECT_EQ(gpu->last_error(), 0) << "a program that asks for its last error finds ours";
    EXPECT_EQ(gpu->current_device(), -1);
  }

  void fail_call(api which, std::uint64_t n) { gpu->fail_call(static_cast<int>(which), n); }

  const controls* gpu = nullptr;

 private:
  std::string machine_;
};

// Host memory that the copy engines use directly, for as long as it lives.
class registered_bytes {
 public:
  registered_bytes(backend_session& session, std::size_t count, std::uint8_t value = 0)
      : data(count, value), session_(session) {
    EXPECT_EQ(session_.table->host_register(session_.opened, data.data(), data.size()), GM_OK) << session_.error();
  }
  registered_bytes(const registered_bytes&) = delete;
  registered_bytes& operator=(const registered_bytes&) = delete;
  ~registered_bytes() { session_.table->host_unregister(session_.opened, data.data(), data.size()); }
  std::uint64_t address() const { return backend_session::address_of(data.data()); }

  bytes data;

 private:
  backend_session& session_;
};

}  // namespace gm::conformance
