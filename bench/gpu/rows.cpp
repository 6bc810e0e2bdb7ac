// SPDX-License-Identifier: Apache-2.0
#include "rows.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gmem/parallel.hpp"
#include "kernels.hpp"
#include "memory.hpp"

namespace gm::bench {
namespace {

constexpr std::size_t word_bytes = sizeof(std::uint64_t);

// The sum of first, first + 1, ... first + count - 1.
std::uint64_t sum_from(std::uint64_t first, std::uint64_t count) {
  const std::uint64_t pairs = count % 2 == 0 ? count / 2 * (count - 1) : (count - 1) / 2 * count;
  return first * count + pairs;
}

std::uint64_t sum_on_cpu(const std::uint64_t* words, std::size_t count) {
  return std::accumulate(words, words + count, std::uint64_t{0});
}

// gmem on the devices that GM_BACKEND chooses, with that budget; 0 is gmem's own.
class gpu_session {
 public:
  explicit gpu_session(std::uint64_t budget_bytes) {
    gm_options options{};
    options.size = sizeof options;
    options.device_budget_bytes = budget_bytes;
    check(gm_init(&options), "gm_init");
  }
  gpu_session(const gpu_session&) = delete;
  gpu_session& operator=(const gpu_session&) = delete;
  ~gpu_session() {
    if (gm_shutdown() != GM_OK) note_unclean_end(gm_last_error());
  }
};

// What one way has in one row.
struct contender {
  way which;
  std::unique_ptr<memory> data;
};

class gpu_measurement : public measurement {
 public:
  gpu_measurement(std::size_t bytes, std::uint64_t budget_bytes, std::vector<way> ways)
      : runtime_(budget_bytes), bytes_(bytes), count_(bytes / word_bytes) {
    sums_ = static_cast<std::uint64_t*>(vendor::device_memory(sum_threads * word_bytes));
    for (const way each : ways)
      if (auto made = make_memory(each, bytes, stream_)) contenders_.push_back({each, std::move(made)});
  }
  ~gpu_measurement() override { vendor::free_device_memory(sums_); }

  sample run(bool) override {
    std::rotate(contenders_.begin(), contenders_.begin() + 1, contenders_.end());
    std::map<way, double> ns;
    for (const contender& each : contenders_) ns[each.which] = run_once(*each.data);
    sample result;
    for (const auto& [which, time] : ns) result.counters[std::string(name_of(which)) + "_ns"] = time;
    result.ours_ns = ns[way::declared];
    if (ns.contains(way::copies)) result.floor_ns = ns[way::copies];
    return result;
  }

 protected:
  // The work, verified. What it took, in ns, without what stands before it.
  virtual double run_once(memory&) = 0;

  template <typename Body>
  void kernel(memory& data, std::size_t first, std::size_t bytes, gm_mode mode, std::size_t threads, Body&& body) {
    std::uint64_t* there = data.begin_kernel(first, bytes, mode);
    if (const gm::view<std::uint64_t>* fetched = data.view())
      gm::parallel_for(stream_.get(), threads, body(*fetched));
    else
      gm::parallel_for(stream_.get(), threads, body(there));
    data.end_kernel();
  }
  void sum_on_device(memory& data) {
    kernel(data, 0, bytes_, GM_READ, sum_threads, [&](auto there) { return sum_words_body{there, count_, sums_}; });
  }
  std::uint64_t device_sum() {
    std::vector<std::uint64_t> sums(sum_threads);
    stream_.synchronize();
    vendor::copy_to_host(sums.data(), sums_, sums.size() * word_bytes, stream_.native());
    stream_.synchronize();
    return sum_on_cpu(sums.data(), sums.size());
  }
  void written_by_cpu(memory& data, std::uint64_t first) {
    data.begin_cpu(0, bytes_, GM_WRITE);
    std::iota(data.words(), data.words() + count_, first);
  }
  void written_by_device(memory& data, std::uint64_t first) {
    kernel(data, 0, bytes_, GM_WRITE, count_, [&](auto there) { return set_words_body{there, first}; });
    stream_.synchronize();
  }
  std::uint64_t next_first() { return first_ += 12345; }

  gpu_session runtime_;
  shared_stream stream_;
  std::size_t bytes_;
  std::size_t count_;

 private:
  std::vector<contender> contenders_;
  std::uint64_t* sums_ = nullptr;
  std::uint64_t first_ = 0;
};

const std::vector<way> every_way(all_ways.begin(), all_ways.end());
constexpr std::size_t large = 256 * MiB;

class to_device : public gpu_measurement {
 public:
  to_device() : gpu_measurement(large, 0, every_way) {}
  double run_once(memory& data) override {
    const std::uint64_t first = next_first();
    written_by_cpu(data, first);
    const double ns = time_ns([&] {
      sum_on_device(data);
      stream_.synchronize();
    });
    expect(device_sum() == sum_from(first, count_), "the device read something else than the CPU wrote");
    return ns;
  }
};

class read_back : public gpu_measurement {
 public:
  read_back() : gpu_measurement(large, 0, every_way) {}
  double run_once(memory& data) override {
    const std::uint64_t first = next_first();
    written_by_device(data, first);
    std::uint64_t sum = 0;
    const double ns = time_ns([&] {
      data.begin_cpu(0, bytes_, GM_READ);
      sum = sum_on_cpu(data.words(), count_);
    });
    expect(sum == sum_from(first, count_), "the CPU read something else than the device wrote");
    return ns;
  }
};

class read_sparse : public gpu_measurement {
 public:
  read_sparse() : gpu_measurement(large, 0, every_way) {}
  double run_once(memory& data) override {
    const std::uint64_t first = next_first();
    written_by_device(data, first);
    std::uint64_t sum = 0;
    const double ns = time_ns([&] {
      for (std::size_t offset = 0; offset < bytes_; offset += 2 * MiB) {
        data.begin_cpu(offset, word_bytes, GM_READ);
        sum += data.words()[offset / word_bytes];
      }
    });
    std::uint64_t expected = 0;
    for (std::size_t offset = 0; offset < bytes_; offset += 2 * MiB) expected += first + offset / word_bytes;
    expect(sum == expected, "the CPU read something else than the device wrote");
    return ns;
  }
};

class ping_pong : public gpu_measurement {
 public:
  ping_pong() : gpu_measurement(64 * KiB, 0, every_way) {}
  double run_once(memory& data) override {
    const std::uint64_t first = next_first();
    written_by_cpu(data, first);
    constexpr std::uint64_t rounds = 100;
    const double ns = time_ns([&] {
      for (std::uint64_t round = 0; round < rounds; ++round) {
        kernel(data, 0, bytes_, GM_READ_WRITE, count_, [](auto there) { return add_to_words_body{there, 1}; });
        data.begin_cpu(0, bytes_, GM_READ_WRITE);
        for (std::size_t i = 0; i < count_; ++i) data.words()[i] += 2;
      }
    });
    expect(sum_on_cpu(data.words(), count_) == sum_from(first + 3 * rounds, count_), "a round was lost");
    return ns;
  }
};

class resident : public gpu_measurement {
 public:
  resident() : gpu_measurement(large, 0, every_way) {}
  double run_once(memory& data) override {
    const std::uint64_t first = next_first();
    written_by_device(data, first);
    constexpr std::uint64_t passes = 100;
    const double ns = time_ns([&] {
      for (std::uint64_t pass = 0; pass < passes; ++pass)
        kernel(data, 0, bytes_, GM_READ_WRITE, count_, [](auto there) { return add_to_words_body{there, 3}; });
      stream_.synchronize();
    });
    sum_on_device(data);
    expect(device_sum() == sum_from(first + 3 * passes, count_), "a pass was lost");
    return ns;
  }
};

class read_both : public gpu_measurement {
 public:
  read_both() : gpu_measurement(64 * MiB, 0, every_way) {}
  double run_once(memory& data) override {
    const std::uint64_t first = next_first();
    data.only_read(false);
    written_by_cpu(data, first);
    std::uint64_t sum = 0;
    constexpr std::uint64_t rounds = 20;
    const double ns = time_ns([&] {
      data.only_read(true);
      for (std::uint64_t round = 0; round < rounds; ++round) {
        sum_on_device(data);
        data.begin_cpu(0, bytes_, GM_READ);
        sum += sum_on_cpu(data.words(), count_);
      }
    });
    const std::uint64_t expected = sum_from(first, count_);
    expect(sum == rounds * expected && device_sum() == expected, "somebody read something else than was written");
    return ns;
  }
};

// Explicit copies go over two buffers, so that copies run beside kernels, as such programs are written.
class streaming : public gpu_measurement {
 public:
  explicit streaming(std::uint64_t times)
      : gpu_measurement(times * budget, budget, {way::declared, way::prefetched, way::on_demand}),
        copies_(times * budget) {}

  sample run(bool floor_first) override {
    double floor_ns = 0;
    if (vendor::has_vendor && floor_first) floor_ns = copies_.run(next_first());
    sample result = gpu_measurement::run(floor_first);
    if (vendor::has_vendor && !floor_first) floor_ns = copies_.run(next_first());
    result.floor_ns = floor_ns;
    if (floor_ns > 0) result.counters[std::string(name_of(way::copies)) + "_ns"] = floor_ns;
    return result;
  }

  double run_once(memory& data) override {
    const std::uint64_t first = next_first();
    written_by_cpu(data, first);
    std::uint64_t sum = 0;
    const double ns = time_ns([&] {
      for (std::size_t at = 0; at < bytes_; at += chunk)
        kernel(data, at, chunk, GM_READ_WRITE, chunk / word_bytes, [](auto there) {
          return add_to_words_body{there, 7};
        });
      data.begin_cpu(0, bytes_, GM_READ);
      sum = sum_on_cpu(data.words(), count_);
    });
    expect(sum == sum_from(first + 7, count_), "a part was lost");
    return ns;
  }

 private:
  static constexpr std::uint64_t budget = 512 * MiB;
  static constexpr std::size_t chunk = 32 * MiB;

  struct two_buffers {
    explicit two_buffers(std::size_t wanted) : bytes(wanted) {
      if (!vendor::has_vendor) return;
      host = static_cast<std::uint64_t*>(vendor::pinned_memory(bytes));
      for (lane& each : lanes) {
        each.stream = std::make_unique<shared_stream>();
        each.there = static_cast<std::uint64_t*>(vendor::device_memory(chunk));
      }
    }
    two_buffers(const two_buffers&) = delete;
    two_buffers& operator=(const two_buffers&) = delete;
    ~two_buffers() {
      if (host == nullptr) return;
      for (lane& each : lanes) vendor::free_device_memory(each.there);
      vendor::free_pinned_memory(host);
    }

    double run(std::uint64_t first) {
      const std::size_t count = bytes / word_bytes;
      std::iota(host, host + count, first);
      std::uint64_t sum = 0;
      const double ns = time_ns([&] {
        for (std::size_t at = 0; at < bytes; at += chunk) {
          const lane& use = lanes[at / chunk % 2];
          std::uint64_t* part = host + at / word_bytes;
          vendor::copy_to_device(use.there, part, chunk, use.stream->native());
          gm::parallel_for(use.stream->get(), chunk / word_bytes, add_to_words_body{use.there, 7});
          vendor::copy_to_host(part, use.there, chunk, use.stream->native());
        }
        for (const lane& each : lanes) each.stream->synchronize();
        sum = sum_on_cpu(host, count);
      });
      expect(sum == sum_from(first + 7, count), "a part was lost by explicit copies");
      return ns;
    }

    struct lane {
      std::unique_ptr<shared_stream> stream;
      std::uint64_t* there = nullptr;
    };
    std::size_t bytes;
    std::uint64_t* host = nullptr;
    lane lanes[2];
  };

  two_buffers copies_;
};

constexpr int repetitions = 7;

}  // namespace

void add_gpu_rows(case_list& cases) {
  cases.push_back({"gpu/to_device", repetitions, [] { return std::make_unique<to_device>(); }});
  cases.push_back({"gpu/read_back", repetitions, [] { return std::make_unique<read_back>(); }});
  cases.push_back({"gpu/read_sparse", repetitions, [] { return std::make_unique<read_sparse>(); }});
  cases.push_back({"gpu/ping_pong", repetitions, [] { return std::make_unique<ping_pong>(); }});
  cases.push_back({"gpu/resident", repetitions, [] { return std::make_unique<resident>(); }});
  cases.push_back({"gpu/read_both", repetitions, [] { return std::make_unique<read_both>(); }});
  cases.push_back({"gpu/stream_2x", repetitions, [] { return std::make_unique<streaming>(2); }});
  cases.push_back({"gpu/stream_4x", repetitions, [] { return std::make_unique<streaming>(4); }});
}

}  // namespace gm::bench
