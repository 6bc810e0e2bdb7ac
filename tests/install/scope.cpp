// SPDX-License-Identifier: Apache-2.0
// The smallest use of gmem from C++: a device doubles numbers that the CPU wrote and reads.
#include <gmem/gmem.h>

#include <cstdio>
#include <numeric>
#include <span>

int main() {
  std::span numbers(static_cast<long*>(gm_malloc(100000 * sizeof(long))), 100000);
  if (!numbers.data()) return std::puts(gm_last_error()), 1;
  std::iota(numbers.begin(), numbers.end(), 0L);

  gm_stream stream = nullptr;
  gm_scope scope = nullptr;
  gm_access use{numbers.data(), numbers.size_bytes(), GM_READ_WRITE};
  auto twice = [](void* values, std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) static_cast<long*>(values)[i] *= 2;
  };
  if (gm_stream_create(1, &stream) || gm_access_begin(stream, &use, 1, &scope) ||
      gm_stream_launch(stream, numbers.size(), twice, nullptr, gm_device_pointer(numbers.data(), 1)) ||
      gm_access_end(scope) || gm_stream_synchronize(stream)) {
    return std::puts(gm_last_error()), 1;
  }

  for (long i = 0; long value : numbers) {
    if (value != 2 * i++) return std::printf("numbers[%ld] is %ld\n", i - 1, value), 1;
  }
  gm_free(numbers.data());
  return gm_stream_destroy(stream) || gm_shutdown();
}
