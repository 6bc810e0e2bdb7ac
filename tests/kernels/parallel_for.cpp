// SPDX-License-Identifier: Apache-2.0
// gm::parallel_for as nvcc, hipcc and the host compiler make it, from this one source. A program and not a googletest:
// device compilers need not read its macros. Says what is wrong and ends with 1; with 77 where there is no device.
#include <cstdint>
#include <cstdio>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <memory>
#include <vector>

#include "kernels/axpy.hpp"

namespace {

int mistakes = 0;

void expect(bool holds, const char* what) {
  if (holds) return;
  ++mistakes;
  std::printf("wrong: %s\n", what);
}

// True where this source has kernels for the device's own API, and not for the host.
bool has_device_kernels(const gm::stream& stream) {
  gm_native_stream native;
  return gm_stream_native(stream, &native) == GM_OK;
}

GM_HOST_DEVICE std::uint32_t mixed(std::size_t i) { return static_cast<std::uint32_t>(i * 2654435761u); }

void every_index_once() {
  gm::stream stream;
  for (const std::size_t count : {0u, 1u, 255u, 256u, 257u, 100'000u, 3'000'001u}) {
    gm::vector<std::uint32_t> x(count + 1, 7);
    {
      gm::scope use(stream, gm::read_write(x));
      std::uint32_t* to = gm::device_pointer(x.data(), stream);
      gm::parallel_for(
          stream, count, GM_LAMBDA(std::size_t i) { to[i] += mixed(i); });
    }
    bool right = x[count] == 7;
    for (std::size_t i = 0; i < count; ++i) right = right && x[i] == 7 + mixed(i);
    expect(right, "every index is run once");
  }
}

void in_stream_order() {
  gm::stream stream;
  gm::vector<std::uint64_t> x(10'000, 1);
  for (int round = 0; round < 20; ++round) {
    gm::scope use(stream, gm::read_write(x));
    std::uint64_t* to = gm::device_pointer(x.data(), stream);
    gm::parallel_for(
        stream, x.size(), GM_LAMBDA(std::size_t i) { to[i] += 1; });
    gm::parallel_for(
        stream, x.size(), GM_LAMBDA(std::size_t i) { to[i] *= 3; });
  }
  std::uint64_t expected = 1;
  for (int round = 0; round < 20; ++round) expected = (expected + 1) * 3;
  for (const std::uint64_t each : x) expect(each == expected, "kernels, copies and the CPU take turns");
}

void a_named_kernel() {
  gm::stream stream;
  gm::vector<float> x(50'000, 2);
  gm::vector<float> y(50'000, 1);
  {
    gm::scope use(stream, gm::read(x), gm::read_write(y));
    gm::parallel_for(stream, x.size(),
                     gm::kernels::axpy{3, gm::device_pointer(x.data(), stream), gm::device_pointer(y.data(), stream)});
  }
  for (const float each : y) expect(each == 7, "a function object is a kernel too");
}

void without_a_stream() {
  gm::vector<int> x(1000, 1);
  gm::scope use(nullptr, gm::read_write(x));
  int* to = gm::device_pointer(x.data(), 1);
  gm::parallel_for(
      nullptr, x.size(), GM_LAMBDA(std::size_t i) { to[i] = static_cast<int>(i); });
  use.end();
  for (std::size_t i = 0; i < x.size(); ++i) expect(x[i] == static_cast<int>(i), "no stream: done on return");
}

// What a body holds that is more than its bytes cannot go to a device, and is fine on the host.
struct counted_body {
  std::shared_ptr<int> token;
  GM_HOST_DEVICE void operator()(std::size_t) const {}
};

void bodies_that_are_more_than_bytes() {
  gm::stream stream;
  const auto token = std::make_shared<int>(0);
  gm_status status = GM_OK;
  try {
    gm::parallel_for(stream, 100, counted_body{token});
    stream.synchronize();
  } catch (const gm::error& refused) {
    status = refused.status();
  }
  expect(status == (has_device_kernels(stream) ? GM_ERROR_UNSUPPORTED : GM_OK), "only bytes go to a device");
  expect(token.use_count() == 1, "the body is gone");
}

void on_every_device() {
  for (int node = 1; node < gm::node_count(); ++node) {
    gm::stream stream(node);
    gm::vector<int> x(1000, 1);
    {
      gm::scope use(stream, gm::read_write(x));
      int* to = gm::device_pointer(x.data(), node);
      gm::parallel_for(
          stream, x.size(), GM_LAMBDA(std::size_t i) { to[i] += 41; });
    }
    expect(x[999] == 42, "each device has its kernels");
  }
}

}  // namespace

int main() {
  if (gm_node_count() == 0) {
    std::printf("skipped: %s\n", gm_last_error());
    return 77;
  }
  try {
    every_index_once();
    in_stream_order();
    a_named_kernel();
    without_a_stream();
    bodies_that_are_more_than_bytes();
    on_every_device();
  } catch (const std::exception& thrown) {
    std::printf("wrong: %s\n", thrown.what());
    return 1;
  }
  std::printf("%s: %d mistakes\n", gm::node_info(1).name, mistakes);
  return mistakes == 0 ? 0 : 1;
}
