// SPDX-License-Identifier: Apache-2.0
#include "managed.h"

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "measure.h"

namespace gm::bench {
namespace {

struct device_sum {
  const std::byte* data;
  std::atomic<std::uint64_t> sum{0};
};

std::uint64_t word_of(unsigned char value) { return 0x0101010101010101u * value; }

std::uint64_t read_word(const std::byte* at) { return *reinterpret_cast<const volatile std::uint64_t*>(at); }

void sum_pages(void* argument, std::size_t first, std::size_t last) {
  device_sum& work = *static_cast<device_sum*>(argument);
  work.sum += sum_words(work.data + first * os_page_bytes, (last - first) * os_page_bytes);
}

}  // namespace

void check(gm_status status, const char* what) {
  if (status != GM_OK) throw bench_error(std::string(what) + ": " + gm_status_string(status) + ": " + gm_last_error());
}

session::session(link_model link, std::uint64_t device_budget_bytes) {
  gm_options options{};
  options.size = sizeof options;
  options.backend = "sim";
  options.arena_size_bytes = 128 * GiB;
  options.sim_memory_bytes = 2 * GiB + 512 * MiB;
  options.device_budget_bytes = device_budget_bytes;
  options.sim_bandwidth_bytes_per_second = link.bytes_per_second;
  options.sim_latency_ns = link.latency_ns;
  check(gm_init(&options), "gm_init");
}

session::~session() {
  if (gm_shutdown() != GM_OK) note_unclean_end(std::string("gm_shutdown: ") + gm_last_error());
}

device_stream::device_stream() { check(gm_stream_create(device_node, &stream_), "gm_stream_create"); }

device_stream::~device_stream() {
  if (gm_stream_destroy(stream_) != GM_OK) note_unclean_end(std::string("gm_stream_destroy: ") + gm_last_error());
}

void device_stream::synchronize() const { check(gm_stream_synchronize(stream_), "gm_stream_synchronize"); }

managed_memory::managed_memory(std::size_t bytes) : bytes_(bytes), data_(static_cast<std::byte*>(gm_malloc(bytes))) {
  if (data_ == nullptr) throw bench_error(std::string("gm_malloc: ") + gm_last_error());
}

managed_memory::~managed_memory() { gm_free(data_); }

void managed_memory::advise(gm_advice advice) const { check(gm_advise(data_, bytes_, advice, GM_HOST), "gm_advise"); }

void managed_memory::prefetch(int node) const { check(gm_prefetch(data_, bytes_, node, nullptr), "gm_prefetch"); }

void managed_memory::fill(int node, unsigned char value) const {
  check(gm_memset(data_, value, bytes_, node, nullptr), "gm_memset");
  expect_valid(std::uint32_t{1} << node);
}

void managed_memory::expect_valid(std::uint32_t nodes) const {
  for (const std::size_t offset : {std::size_t{0}, bytes_ / 2, bytes_ - 1}) {
    gm_mapping mapping{};
    check(gm_query(data_ + offset, &mapping), "gm_query");
    expect(mapping.valid_nodes == nodes, "the page at " + std::to_string(offset) + " is on nodes " +
                                             std::to_string(mapping.valid_nodes) + " and should be on " +
                                             std::to_string(nodes) + " (bits)");
  }
}

open_scope::open_scope(const device_stream& stream, const gm_access& access) {
  check(gm_access_begin(stream.get(), &access, 1, &scope_), "gm_access_begin");
}

open_scope::~open_scope() {
  if (scope_ != nullptr) gm_access_end(scope_);
}

void open_scope::end() {
  gm_scope ending = scope_;
  scope_ = nullptr;
  check(gm_access_end(ending), "gm_access_end");
}

gm_stats stats_now() {
  gm_stats stats{};
  stats.size = sizeof stats;
  check(gm_stats_get(&stats), "gm_stats_get");
  return stats;
}

std::uint64_t host_faults() { return stats_now().node[GM_HOST].faults; }

std::uint64_t host_faults_settled(std::uint64_t count) {
  constexpr int tries = 100;
  for (int i = 0; i < tries && host_faults() < count; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return host_faults();
}

std::uint64_t bytes_moved() {
  const gm_stats stats = stats_now();
  std::uint64_t bytes = 0;
  for (std::uint64_t node = 0; node < stats.node_count; ++node) bytes += stats.node[node].bytes_in;
  return bytes;
}

std::uint64_t sum_words(const std::byte* data, std::size_t bytes) {
  std::uint64_t sum = 0;
  for (std::size_t offset = 0; offset < bytes; offset += os_page_bytes) sum += read_word(data + offset);
  return sum;
}

std::uint64_t sum_words_on_device(const device_stream& stream, const managed_memory& memory) {
  open_scope scope(stream, memory.as(GM_READ));
  device_sum work{static_cast<const std::byte*>(gm_device_pointer(memory.data(), device_node))};
  expect(work.data != nullptr, "gm_device_pointer gives NULL within a scope");
  check(gm_stream_launch(stream.get(), memory.bytes() / os_page_bytes, sum_pages, nullptr, &work), "gm_stream_launch");
  scope.end();
  stream.synchronize();
  return work.sum;
}

std::uint64_t expected_sum(std::size_t bytes, unsigned char value) { return bytes / os_page_bytes * word_of(value); }

void write_words(std::byte* data, std::size_t bytes, unsigned char value) {
  for (std::size_t offset = 0; offset < bytes; offset += os_page_bytes) {
    *reinterpret_cast<volatile std::uint64_t*>(data + offset) = word_of(value);
  }
}

unsigned char next_value() {
  static unsigned value = 0;
  value = value % 251 + 1;
  return static_cast<unsigned char>(value);
}

}  // namespace gm::bench
