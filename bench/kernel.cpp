// SPDX-License-Identifier: Apache-2.0
// kernel.cpp - what managed memory costs inside a kernel once it is resident: kernel/resident.
#include "gmem/parallel.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <string>

#include "bare_pager.h"
#include "kernels/axpy.hpp"
#include "managed.h"
#include "measure.h"

namespace gm::bench {
namespace {

// y += x over 2 x 128 MiB of floats. Ours: open a scope on memory that is resident, launch, end, wait. Floor: launch
// the same body on memory of the device's kind that gmem does not know, and wait.
class resident : public measurement {
 public:
  resident() {
    x_.fill(device_node, x_byte);
    y_.fill(device_node, 0);
    std::memset(floor_x_.data(), x_byte, floor_x_.bytes());
    std::memset(floor_y_.data(), 0, floor_y_.bytes());
    std::memset(&x_value_, x_byte, sizeof x_value_);
  }

  sample run(bool floor_first) override {
    constexpr double moved_bytes = 3.0 * count * sizeof(float);
    std::array<double, launches> ours_ns{}, floor_ns{};
    for (std::size_t launch = 0; launch < launches; ++launch) {
      expected_ += x_value_;
      const sample once = time_both(
          floor_first, [&] { return time_ns([&] { launch_managed(); }); },
          [&] { return time_ns([&] { launch_floor(); }); });
      ours_ns[launch] = once.ours_ns;
      floor_ns[launch] = once.floor_ns;
      floor_first = !floor_first;
    }
    sample result{median(ours_ns), median(floor_ns)};
    result.counters = {{"bytes_per_second", moved_bytes * 1e9 / result.ours_ns}};
    verify();
    return result;
  }

 private:
  static constexpr std::size_t count = 128 * MiB / sizeof(float);
  static constexpr std::size_t launches = 9;     // of each in a repetition, by turns: the goal is near to 1
  static constexpr unsigned char x_byte = 0x3f;  // a float of 0x3f3f3f3f, about 0.75

  static double median(std::array<double, launches>& values) {
    std::nth_element(values.begin(), values.begin() + launches / 2, values.end());
    return values[launches / 2];
  }

  static float* floats(const plain_memory& memory) { return reinterpret_cast<float*>(memory.data()); }
  static float* floats(const managed_memory& memory) {
    return static_cast<float*>(gm_device_pointer(memory.data(), device_node));
  }

  void queue(const float* x, float* y) { gm::parallel_for(stream_.get(), count, kernels::axpy{1.0F, x, y}); }

  void launch_floor() {
    queue(floats(floor_x_), floats(floor_y_));
    stream_.synchronize();
  }

  void launch_managed() {
    const gm_access accesses[] = {x_.as(GM_READ), y_.as(GM_READ_WRITE)};
    gm_scope scope = nullptr;
    check(gm_access_begin(stream_.get(), accesses, 2, &scope), "gm_access_begin");
    queue(floats(x_), floats(y_));
    check(gm_access_end(scope), "gm_access_end");
    stream_.synchronize();
  }

  // Both results are exactly the same additions in the same order; compared on the device, so that nothing moves.
  void verify() {
    std::atomic<std::size_t> wrong{0};
    std::atomic<std::size_t>* const wrong_at = &wrong;
    const float expected = expected_;
    open_scope scope(stream_, y_.as(GM_READ));
    for (const float* y : {floats(y_), floats(floor_y_)}) {
      gm::parallel_for(
          stream_.get(), count, GM_LAMBDA(std::size_t i) {
            if (y[i] != expected) wrong_at->fetch_add(1);
          });
    }
    scope.end();
    stream_.synchronize();
    expect(wrong == 0, "the kernel's result is wrong in " + std::to_string(wrong) + " places");
  }

  session runtime_;
  device_stream stream_;
  managed_memory x_{count * sizeof(float)}, y_{count * sizeof(float)};
  plain_memory floor_x_{count * sizeof(float)}, floor_y_{count * sizeof(float)};
  float x_value_ = 0, expected_ = 0;
};

}  // namespace

void add_kernel(case_list& cases) {
  cases.push_back({"kernel/resident", 41, [] { return std::make_unique<resident>(); }});
}

}  // namespace gm::bench
