// SPDX-License-Identifier: Apache-2.0
//
// thrust_statistics - a library's algorithms on managed memory: thrust::transform, thrust::sort and thrust::reduce.
//
// The idea: Thrust takes plain pointers and a place to run, and a scope gives both: device addresses, and the stream.
// So readings that the CPU wrote with plain stores are calibrated, sorted and added up on the device, and the CPU picks
// the median out of the same memory. Neither thrust::device_vector nor a copy is in here.
//
// One source for all: on CUDA it is Thrust's own CUDA system, on HIP rocThrust, both on the stream's native handle; on
// the simulated device it is Thrust's TBB system, as a function of the stream.
#include <getopt.h>
#include <thrust/reduce.h>
#include <thrust/sort.h>
#include <thrust/system/tbb/execution_policy.h>
#include <thrust/transform.h>

#if defined(__HIPCC__)
#include <thrust/system/hip/execution_policy.h>
#elif defined(__CUDACC__)
#include <thrust/system/cuda/execution_policy.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <iomanip>
#include <iostream>
#include <new>
#include <numeric>
#include <vector>

#include "native_stream.h"
#include "whole_number.h"

namespace {

constexpr std::size_t count_max = std::size_t{1} << 28;
constexpr double bytes_a_mib = 1 << 20;

// What a converter of 24 bits reads: the sum of four noises around the middle of its range.
std::uint32_t reading_at(std::size_t i) {
  std::uint64_t x = (i + 1) * 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x ^= x >> 27;
  std::uint64_t sum = 0;
  for (int part = 0; part < 4; ++part) sum += x >> (16 * part) & 0xffff;
  return static_cast<std::uint32_t>(sum << 6);
}

// From readings to microvolts of a range of 5 V.
struct calibration {
  GM_HOST_DEVICE std::uint32_t operator()(std::uint32_t reading) const {
    return static_cast<std::uint32_t>(std::uint64_t{reading} * 5000000 >> 24);
  }
};

// Thrust's temporary storage, cut from managed memory that the scope covers. So it counts towards the device's budget,
// and there is no allocation on the device that would wait for everything running on it. What one algorithm has given
// back the next may have at once: both do their work on one stream.
class temporary_storage {
 public:
  using value_type = char;

  temporary_storage(char* memory, std::size_t bytes) : memory_(memory), bytes_(bytes) {}
  temporary_storage(const temporary_storage&) = delete;
  temporary_storage& operator=(const temporary_storage&) = delete;

  // Room for the sort's second array, and for what grows more slowly.
  static std::size_t bytes_for(std::size_t count) { return 2 * count * sizeof(std::uint32_t) + (std::size_t{4} << 20); }

  char* allocate(std::ptrdiff_t bytes) {
    constexpr std::size_t alignment = 256;
    const std::size_t wanted = (static_cast<std::size_t>(bytes) + alignment - 1) / alignment * alignment;
    if (wanted > bytes_ - used_) throw std::bad_alloc();
    char* const piece = memory_ + used_;
    used_ += wanted;
    ++pieces_;
    return piece;
  }

  void deallocate(char* /*piece*/, std::size_t /*bytes*/) {
    if (--pieces_ == 0) used_ = 0;
  }

 private:
  char* memory_;
  std::size_t bytes_;
  std::size_t used_ = 0;
  std::size_t pieces_ = 0;
};

// Device addresses, save the sum's, which is the host's.
struct task {
  std::uint32_t* data;
  std::size_t count;
  char* temporary;
  std::size_t temporary_bytes;
  std::uint64_t* sum;
};

template <class Policy>
void run_thrust(const Policy& policy, const task& t) {
  thrust::transform(policy, t.data, t.data + t.count, t.data, calibration{});
  thrust::sort(policy, t.data, t.data + t.count);
  *t.sum = thrust::reduce(policy, t.data, t.data + t.count, std::uint64_t{0});  // on a GPU this waits for the result
}

// The sum is there when the stream is synchronized.
void queue_thrust(gm::stream& stream, const task& t) {
  if (const auto native = sample::native_stream(stream)) {
    if (native->has_failed != 0) return;  // synchronize() says why
    [[maybe_unused]] temporary_storage temporary(t.temporary, t.temporary_bytes);
#if defined(__HIPCC__)
    run_thrust(thrust::hip::par_nosync(temporary).on(static_cast<hipStream_t>(native->stream)), t);
#elif defined(__CUDACC__)
    run_thrust(thrust::cuda::par_nosync(temporary).on(static_cast<cudaStream_t>(native->stream)), t);
#endif
    return;
  }
  stream.call([t] {
    temporary_storage temporary(t.temporary, t.temporary_bytes);
    run_thrust(thrust::tbb::par(temporary), t);
  });
}

using words = std::vector<std::uint32_t>;

bool is_right(const std::uint32_t* data, std::uint64_t sum, const words& expected) {
  const auto [wrong, wanted] = std::mismatch(data, data + expected.size(), expected.begin());
  if (wanted != expected.end()) {
    std::cerr << "thrust_statistics: WRONG: number " << wrong - data << " in order is " << *wrong << " and should be "
              << *wanted << '\n';
    return false;
  }
  if (const std::uint64_t right = std::accumulate(expected.begin(), expected.end(), std::uint64_t{0}); sum != right) {
    std::cerr << "thrust_statistics: WRONG: the sum is " << sum << " and should be " << right << '\n';
    return false;
  }
  return true;
}

int run(std::size_t count) {
  using clock = std::chrono::steady_clock;
  using seconds = std::chrono::duration<double>;
  gm::stream stream;
  const auto readings = gm::make_unique_for_overwrite<std::uint32_t[]>(count);  // gm_malloc, and one pointer for all
  std::uint32_t* const data = readings.get();
  for (std::size_t i = 0; i < count; ++i) data[i] = reading_at(i);

  const auto temporary = gm::make_unique_for_overwrite<char[]>(temporary_storage::bytes_for(count));
  std::uint64_t sum = 0;
  const auto started = clock::now();
  {
    gm::scope use(stream, gm::read_write(readings), gm::write(temporary));
    queue_thrust(stream, {gm::device_pointer(data, stream), count, gm::device_pointer(temporary.get(), stream),
                          temporary.get_deleter().count(), &sum});
  }
  stream.synchronize();
  const seconds device_time = clock::now() - started;

  words expected(count);
  for (std::size_t i = 0; i < count; ++i) expected[i] = reading_at(i);
  const auto plainly_started = clock::now();
  std::transform(expected.begin(), expected.end(), expected.begin(), calibration{});
  std::sort(expected.begin(), expected.end());
  const seconds plain_time = clock::now() - plainly_started;
  if (!is_right(data, sum, expected)) return 1;

  const gm_node_stats moved = gm::stats().node[stream.node()];
  std::cout << std::fixed << std::setprecision(3) << "thrust_statistics: " << count << " readings transformed, sorted "
            << "and added up on " << gm::node_info(stream.node()).name << " in " << device_time.count() << " s, "
            << std::setprecision(1) << static_cast<double>(moved.bytes_in) / bytes_a_mib << " MiB there and "
            << static_cast<double>(moved.bytes_out) / bytes_a_mib << " MiB back; one thread of the CPU took "
            << std::setprecision(3) << plain_time.count() << " s\n"
            << "least " << data[0] << ", median " << data[count / 2] << ", most " << data[count - 1] << ", mean "
            << sum / count << " microvolts\n"
            << "thrust_statistics: every number and the sum equal to std::transform, std::sort and std::accumulate\n";
  return 0;
}

void usage(std::ostream& to) {
  to << "Usage: sample_thrust_statistics [OPTION]...\n"
        "Thrust's transform, sort and reduce on the first device, over memory that the CPU shares, checked against "
        "std::.\n"
        "  -n, --count=N   readings, 1 to "
     << count_max
     << " (default 4194304)\n"
        "  -h, --help      this text\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t count = std::size_t{1} << 22;
  const option options[] = {{"count", required_argument, nullptr, 'n'}, {"help", no_argument, nullptr, 'h'}, {}};
  for (int letter; (letter = getopt_long(argc, argv, "n:h", options, nullptr)) != -1;) {
    const auto number = letter == 'n' ? sample::whole_number(optarg, 1, count_max) : std::nullopt;
    if (!number) {
      usage(letter == 'h' ? std::cout : std::cerr);
      return letter == 'h' ? 0 : 2;
    }
    count = *number;
  }
  if (optind != argc) {
    usage(std::cerr);
    return 2;
  }
  try {
    return run(count);
  } catch (const std::exception& failure) {
    std::cerr << "thrust_statistics: " << failure.what() << '\n';
    return 1;
  }
}
