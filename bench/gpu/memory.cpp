// SPDX-License-Identifier: Apache-2.0
#include "memory.hpp"

#include <string>

namespace gm::bench {

void check(gm_status result, const char* what) {
  if (result != GM_OK) throw bench_error(std::string(what) + ": " + gm_status_string(result) + ": " + gm_last_error());
}

shared_stream::shared_stream() : native_(vendor::make_stream()) {
  if (vendor::has_vendor)
    check(gm_stream_from_native(device_node, native_, &stream_), "gm_stream_from_native");
  else
    check(gm_stream_create(device_node, &stream_), "gm_stream_create");
}

shared_stream::~shared_stream() {
  if (gm_stream_destroy(stream_) != GM_OK) note_unclean_end(gm_last_error());
  vendor::free_stream(native_);
}

void shared_stream::synchronize() const {
  check(gm_stream_synchronize(stream_), "gm_stream_synchronize");
  vendor::synchronize(native_);
}

namespace {

class gmem_memory : public memory {
 public:
  gmem_memory(std::size_t bytes, const shared_stream& stream, bool prefetches)
      : stream_(stream), bytes_(bytes), prefetches_(prefetches) {
    words_ = static_cast<std::uint64_t*>(gm_malloc(bytes));
    if (words_ == nullptr) throw bench_error(std::string("gm_malloc: ") + gm_last_error());
  }
  ~gmem_memory() override { gm_free(words_); }

  std::uint64_t* begin_kernel(std::size_t first, std::size_t bytes, gm_mode mode) override {
    if (prefetches_ && mode != GM_WRITE)
      check(gm_prefetch(at(first), bytes, device_node, stream_.get()), "gm_prefetch");
    const gm_access access{at(first), bytes, mode};
    check(gm_access_begin(stream_.get(), &access, 1, &scope_), "gm_access_begin");
    return static_cast<std::uint64_t*>(gm_device_pointer(at(first), device_node));
  }
  void end_kernel() override { check(gm_access_end(scope_), "gm_access_end"); }
  void begin_cpu(std::size_t first, std::size_t bytes, gm_mode) override {
    if (prefetches_) check(gm_prefetch(at(first), bytes, GM_HOST, stream_.get()), "gm_prefetch");
    stream_.synchronize();
  }
  void only_read(bool on) override {
    check(gm_advise(words_, bytes_, on ? GM_ADVISE_READ_MOSTLY : GM_ADVISE_NORMAL, GM_HOST), "gm_advise");
  }

 private:
  const shared_stream& stream_;
  std::size_t bytes_;
  bool prefetches_;
  gm_scope scope_ = nullptr;
};

class fetched_by_kernels : public memory {
 public:
  fetched_by_kernels(std::size_t bytes, const shared_stream& stream) : stream_(stream) {
    words_ = static_cast<std::uint64_t*>(gm_malloc(bytes));
    if (words_ == nullptr) throw bench_error(std::string("gm_malloc: ") + gm_last_error());
  }
  ~fetched_by_kernels() override { gm_free(words_); }

  std::uint64_t* begin_kernel(std::size_t first, std::size_t bytes, gm_mode) override {
    auto* const words = reinterpret_cast<std::uint64_t*>(at(first));
    const std::size_t count = bytes / sizeof(std::uint64_t);
    scope_ = gm::scope(stream_.get(), gm::on_demand(words, count));
    view_ = gm::view<std::uint64_t>(*scope_, words, count);
    return nullptr;
  }
  void end_kernel() override { scope_.reset(); }
  const gm::view<std::uint64_t>* view() const override { return &view_; }
  void begin_cpu(std::size_t, std::size_t, gm_mode) override { stream_.synchronize(); }

 private:
  const shared_stream& stream_;
  std::optional<gm::scope> scope_;
  gm::view<std::uint64_t> view_;
};

bool has_access_map() {
  gm_node_info info{};
  check(gm_node_info_get(device_node, &info), "gm_node_info_get");
  return info.has_access_map != 0;
}

class vendor_managed : public memory {
 public:
  vendor_managed(void* made, std::size_t bytes, const shared_stream& stream, bool hints)
      : stream_(stream), bytes_(bytes), hints_(hints) {
    words_ = static_cast<std::uint64_t*>(made);
  }
  ~vendor_managed() override { vendor::free_device_memory(words_); }

  std::uint64_t* begin_kernel(std::size_t first, std::size_t bytes, gm_mode) override {
    if (hints_) vendor::prefetch(at(first), bytes, vendor::place::device, stream_.native());
    return reinterpret_cast<std::uint64_t*>(at(first));
  }
  void begin_cpu(std::size_t first, std::size_t bytes, gm_mode) override {
    if (hints_) vendor::prefetch(at(first), bytes, vendor::place::host, stream_.native());
    stream_.synchronize();
  }
  void only_read(bool on) override {
    if (hints_) vendor::advise_read_mostly(words_, bytes_, on);
  }

 private:
  const shared_stream& stream_;
  std::size_t bytes_;
  bool hints_;
};

// Which side is newer is known for the whole; a part is copied when a part is asked for.
class explicit_copies : public memory {
 public:
  explicit_copies(std::size_t bytes, const shared_stream& stream) : stream_(stream), bytes_(bytes) {
    there_ = static_cast<std::byte*>(vendor::device_memory(bytes));
    words_ = static_cast<std::uint64_t*>(vendor::pinned_memory(bytes));
  }
  ~explicit_copies() override {
    vendor::free_device_memory(there_);
    vendor::free_pinned_memory(words_);
  }

  std::uint64_t* begin_kernel(std::size_t first, std::size_t bytes, gm_mode mode) override {
    if (host_is_newer_ && mode != GM_WRITE) vendor::copy_to_device(there_ + first, at(first), bytes, stream_.native());
    if (bytes == bytes_) host_is_newer_ = false;
    if (mode != GM_READ) device_is_newer_ = true;
    return reinterpret_cast<std::uint64_t*>(there_ + first);
  }
  void begin_cpu(std::size_t first, std::size_t bytes, gm_mode mode) override {
    if (device_is_newer_ && mode != GM_WRITE) vendor::copy_to_host(at(first), there_ + first, bytes, stream_.native());
    stream_.synchronize();
    if (bytes == bytes_) device_is_newer_ = false;
    if (mode != GM_READ) host_is_newer_ = true;
  }

 private:
  const shared_stream& stream_;
  std::size_t bytes_;
  std::byte* there_ = nullptr;
  bool host_is_newer_ = true;
  bool device_is_newer_ = false;
};

class over_the_link : public memory {
 public:
  over_the_link(std::size_t bytes, const shared_stream& stream) : stream_(stream) {
    words_ = static_cast<std::uint64_t*>(vendor::pinned_memory(bytes));
    there_ = static_cast<std::byte*>(vendor::to_device(words_));
  }
  ~over_the_link() override { vendor::free_pinned_memory(words_); }

  std::uint64_t* begin_kernel(std::size_t first, std::size_t, gm_mode) override {
    return reinterpret_cast<std::uint64_t*>(there_ + first);
  }
  void begin_cpu(std::size_t, std::size_t, gm_mode) override { stream_.synchronize(); }

 private:
  const shared_stream& stream_;
  std::byte* there_ = nullptr;
};

}  // namespace

std::unique_ptr<memory> make_memory(way which, std::size_t bytes, const shared_stream& stream) {
  switch (which) {
    case way::declared:
    case way::prefetched:
      return std::make_unique<gmem_memory>(bytes, stream, which == way::prefetched);
    case way::on_demand:
      if (has_access_map()) return std::make_unique<fetched_by_kernels>(bytes, stream);
      return nullptr;
    case way::faults:
    case way::hints: {
      void* made = vendor::managed_memory(bytes);
      if (made == nullptr) return nullptr;
      return std::make_unique<vendor_managed>(made, bytes, stream, which == way::hints);
    }
    case way::copies:
      if (vendor::has_vendor) return std::make_unique<explicit_copies>(bytes, stream);
      return nullptr;
    case way::zero_copy:
      if (vendor::has_vendor) return std::make_unique<over_the_link>(bytes, stream);
      return nullptr;
  }
  return nullptr;
}

}  // namespace gm::bench
