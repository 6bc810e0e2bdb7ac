// SPDX-License-Identifier: Apache-2.0
// Random work of all kinds on whatever devices there are, against plain arrays: scopes with kernels that read, change
// or overwrite, copies, fills, prefetches, advice, discards and reallocations on two streams a device, with the CPU
// reading and writing between, under a budget that makes blocks give way. From one source by the host compiler, nvcc
// and hipcc. Says what is wrong and ends with 1; with 77 where there is no device. GM_TEST_SEED repeats a program.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <gmem/gmem.hpp>
#include <gmem/parallel.hpp>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr std::size_t page = 64 * 1024;
constexpr std::size_t word = sizeof(std::uint64_t);
constexpr std::size_t summands = 256;  // threads of a kernel that reads

GM_HOST_DEVICE std::uint64_t mixed(std::uint64_t seed, std::uint64_t i) {
  const std::uint64_t x = (seed + i) * 0x9e3779b97f4a7c15u;
  return x ^ (x >> 29);
}

struct overwrite {
  std::uint64_t* to;
  std::uint64_t seed;
  GM_HOST_DEVICE void operator()(std::size_t i) const { to[i] = mixed(seed, i); }
};
struct change {
  std::uint64_t* to;
  std::uint64_t seed;
  GM_HOST_DEVICE void operator()(std::size_t i) const { to[i] = to[i] * 3 + seed; }
};
struct add_up {
  const std::uint64_t* from;
  std::size_t count;
  std::uint64_t* sums;
  GM_HOST_DEVICE void operator()(std::size_t thread) const {
    std::uint64_t sum = 0;
    for (std::size_t i = thread; i < count; i += summands) sum += from[i];
    sums[thread] = sum;
  }
};

class program {
 public:
  explicit program(std::uint64_t seed) : state_(seed) {
    for (int node = 1; node < gm_node_count(); ++node)
      for (int i = 0; i < 2; ++i) streams_.push_back(std::make_unique<gm::stream>(node));
  }
  ~program() {
    for (array& each : arrays_) gm_free(each.words);
  }
  program(const program&) = delete;
  program& operator=(const program&) = delete;

  bool run(unsigned steps) {
    for (unsigned step = 0; step < steps && wrong_.empty(); ++step) one_step();
    for (auto& each : streams_) each->synchronize();
    for (const array& each : arrays_) expect_words(each, 0, each.expected.size(), "in the end");
    check_reads();
    return wrong_.empty();
  }
  const std::string& wrong() const { return wrong_; }

 private:
  struct array {
    std::uint64_t* words;
    std::vector<std::uint64_t> expected;
  };
  struct device_read {
    gm::unique_ptr<std::uint64_t[]> sums;
    std::uint64_t expected;
  };
  struct range {
    array* of;
    std::size_t first, count;
    std::uint64_t* begin() const { return of->words + first; }
    std::uint64_t* expected() const { return of->expected.data() + first; }
  };

  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t count) { return next() % count; }
  gm::stream& any_stream() { return *streams_[below(streams_.size())]; }
  int any_node() { return static_cast<int>(below(static_cast<std::size_t>(gm_node_count()))); }
  range any_range() {
    array& of = arrays_[below(arrays_.size())];
    const std::size_t first = below(of.expected.size());
    return {&of, first, 1 + below(std::min<std::size_t>(of.expected.size() - first, 1 + below(400'000)))};
  }
  static void check(gm_status s) { gm::check(s); }

  void one_step() {
    if (arrays_.size() < 2 || (arrays_.size() < 8 && below(20) == 0)) return allocate();
    switch (below(16)) {
      case 0:
      case 1:
      case 2:
        return kernel_that_changes();
      case 3:
      case 4:
        return kernel_that_overwrites();
      case 5:
      case 6:
        return kernel_that_reads();
      case 7:
      case 8:
        return cpu_writes();
      case 9:
      case 10:
        return cpu_reads();
      case 11:
        return copies();
      case 12:
        return fills();
      case 13:
        return hints();
      case 14:
        return discards();
      default:
        return gives_up_or_resizes();
    }
  }

  void allocate() {
    const std::size_t count = 1 + below(below(3) == 0 ? 700'000 : 30'000);
    auto* words = static_cast<std::uint64_t*>(gm_calloc(count, word));
    if (words == nullptr) throw gm::error(GM_ERROR_NO_MEMORY, gm_last_error());
    arrays_.push_back({words, std::vector<std::uint64_t>(count)});
  }
  void kernel_that_changes() {
    const range r = any_range();
    gm::stream& on = any_stream();
    const std::uint64_t seed = next();
    const gm_access access{r.begin(), r.count * word, GM_READ_WRITE};
    gm_scope scope = nullptr;
    check(gm_access_begin(on.native(), &access, 1, &scope));
    gm::parallel_for(on.native(), r.count, change{gm::device_pointer(r.begin(), on), seed});
    check(gm_access_end(scope));
    for (std::size_t i = 0; i < r.count; ++i) r.expected()[i] = r.expected()[i] * 3 + seed;
  }
  void kernel_that_overwrites() {
    const range r = any_range();
    gm::stream& on = any_stream();
    const std::uint64_t seed = next();
    const gm_access access{r.begin(), r.count * word, GM_WRITE};
    gm_scope scope = nullptr;
    check(gm_access_begin(on.native(), &access, 1, &scope));
    gm::parallel_for(on.native(), r.count, overwrite{gm::device_pointer(r.begin(), on), seed});
    check(gm_access_end(scope));
    for (std::size_t i = 0; i < r.count; ++i) r.expected()[i] = mixed(seed, i);
  }
  void kernel_that_reads() {
    const range r = any_range();
    gm::stream& on = any_stream();
    device_read read{gm::make_unique<std::uint64_t[]>(summands), 0};
    const gm_access accesses[] = {{r.begin(), r.count * word, GM_READ}, {read.sums.get(), summands * word, GM_WRITE}};
    gm_scope scope = nullptr;
    check(gm_access_begin(on.native(), accesses, 2, &scope));
    gm::parallel_for(on.native(), summands,
                     add_up{gm::device_pointer(r.begin(), on), r.count, gm::device_pointer(read.sums.get(), on)});
    check(gm_access_end(scope));
    for (std::size_t i = 0; i < r.count; ++i) read.expected += r.expected()[i];
    reads_.push_back(std::move(read));
    if (reads_.size() > 8) check_reads();
  }
  void check_reads() {
    for (const device_read& each : reads_) {
      std::uint64_t sum = 0;
      for (std::size_t i = 0; i < summands; ++i) sum += each.sums[i];
      if (sum != each.expected) wrong_ = "a kernel read something else than was there";
    }
    reads_.clear();
  }
  void cpu_writes() {
    const range r = any_range();
    const std::uint64_t seed = next();
    for (std::size_t i = 0; i < r.count; ++i) r.begin()[i] = r.expected()[i] = mixed(seed, i);
  }
  void cpu_reads() {
    const range r = any_range();
    expect_words(*r.of, r.first, r.count, "the CPU");
  }
  void expect_words(const array& of, std::size_t first, std::size_t count, const char* who) {
    for (std::size_t i = first; i < first + count; ++i)
      if (of.words[i] != of.expected[i]) {
        wrong_ = std::string(who) + ": word " + std::to_string(i) + " of " + std::to_string(of.expected.size()) +
                 " is wrong";
        return;
      }
  }
  void copies() {
    const range from = any_range();
    const range to = any_range();
    const std::size_t count = std::min(from.count, to.count);
    if (from.of == to.of) return;
    gm::stream& on = any_stream();
    const int node = below(3) == 0 ? int{GM_HOST} : on.node();
    check(gm_memcpy(to.begin(), from.begin(), count * word, node, below(2) == 0 ? on.native() : nullptr));
    std::copy_n(from.expected(), count, to.expected());
  }
  void fills() {
    const range r = any_range();
    gm::stream& on = any_stream();
    const int node = below(3) == 0 ? int{GM_HOST} : on.node();
    const auto value = static_cast<unsigned char>(next());
    check(gm_memset(r.begin(), value, r.count * word, node, below(2) == 0 ? on.native() : nullptr));
    std::fill_n(r.expected(), r.count, 0x0101010101010101u * value);
  }
  void hints() {
    const range r = any_range();
    if (below(2) == 0) {
      gm::stream& on = any_stream();
      check(gm_prefetch(r.begin(), r.count * word, below(2) == 0 ? int{GM_HOST} : on.node(), on.native()));
    } else {
      check(gm_advise(r.begin(), r.count * word, static_cast<gm_advice>(below(GM_ADVISE_COLD + 1)), any_node()));
    }
  }
  void discards() {
    const range r = any_range();
    check(gm_discard(r.begin(), r.count * word));
    // Whole pages; the array begins with one.
    const std::size_t first = (r.first * word + page - 1) / page * page / word;
    const std::size_t last = (r.first + r.count) * word / page * page / word;
    for (std::size_t i = first; i < last; ++i) r.of->expected[i] = 0;
  }
  void gives_up_or_resizes() {
    const std::size_t at = below(arrays_.size());
    array& a = arrays_[at];
    if (below(2) == 0) {
      gm_free(a.words);
      arrays_.erase(arrays_.begin() + static_cast<std::ptrdiff_t>(at));
      return;
    }
    const std::size_t count = 1 + below(2 * a.expected.size());
    void* moved = gm_realloc(a.words, count * word);
    if (moved == nullptr) throw gm::error(GM_ERROR_NO_MEMORY, gm_last_error());
    a.words = static_cast<std::uint64_t*>(moved);
    for (std::size_t i = a.expected.size(); i < count; ++i) a.words[i] = 0;
    a.expected.resize(count);
  }

  std::uint64_t state_;
  std::vector<std::unique_ptr<gm::stream>> streams_;
  std::vector<array> arrays_;
  std::vector<device_read> reads_;
  std::string wrong_;
};

int run() {
  gm_options options{};
  options.size = sizeof options;
  options.device_budget_bytes = std::uint64_t{32} << 20;
  const gm_status started = gm_init(&options);
  if (started == GM_ERROR_UNSUPPORTED) {
    std::printf("no device: %s\n", gm_last_error());
    return 77;
  }
  gm::check(started);
  const char* given = std::getenv("GM_TEST_SEED");
  const char* scale = std::getenv("GM_TEST_SCALE");
  std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : 1;
  const std::uint64_t last =
      given != nullptr ? seed
                       : std::max<std::uint64_t>(1, static_cast<std::uint64_t>(20 * (scale ? std::atof(scale) : 1)));
  for (; seed <= last; ++seed) {
    program one(seed);
    if (one.run(400)) continue;
    std::printf("GM_TEST_SEED=%llu: %s\n", static_cast<unsigned long long>(seed), one.wrong().c_str());
    return 1;
  }
  std::printf("model: %llu programs of 400 steps agree with plain arrays\n", static_cast<unsigned long long>(last));
  gm::check(gm_shutdown());
  return 0;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
}
