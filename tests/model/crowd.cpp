// SPDX-License-Identifier: Apache-2.0
#include "model/crowd.h"

#include <thread>

namespace gm::test {

// One thread of the crowd.
class crowd::member {
 public:
  member(crowd& all, unsigned number)
      : all_(all), number_(number), random_(all.seed_ * 1000 + number), nodes_(static_cast<unsigned>(gm_node_count())) {
    for (const shared_memory& s : all_.shared_) known_.emplace_back(s.bytes, 0);
    for (unsigned node = 1; node < nodes_; ++node) {
      streams_.emplace_back();
      if (gm_stream_create(static_cast<int>(node), &streams_.back()) != GM_OK) wrong("no stream");
    }
  }
  member(const member&) = delete;
  member& operator=(const member&) = delete;
  ~member() {
    settle();
    for (gm_stream s : streams_)
      if (gm_stream_destroy(s) != GM_OK) wrong("gm_stream_destroy");
    gm_free(own_);
  }

  void run(std::uint64_t steps) {
    for (std::uint64_t i = 0; i < steps && !all_.failed(); ++i) {
      step();
      all_.watchdog_.progress();
      char why[512] = "";
      if (random_.chance(25) && !debug_validate(why, sizeof why)) wrong(why);
    }
    settle();
    if (!all_.failed()) check_everything();
  }

 private:
  static constexpr std::size_t notes_max = 40;

  // A part of one of this thread's stripes.
  struct part {
    std::size_t memory;
    std::size_t begin;
    std::size_t bytes;
  };

  std::uint8_t* user(const part& p) const { return all_.shared_[p.memory].base + p.begin; }
  std::uint8_t* known(const part& p) { return known_[p.memory].data() + p.begin; }

  void wrong(const std::string& what) {
    std::string text = "thread " + std::to_string(number_) + ", after " + last_ + ": " + what + "\nlast steps:\n";
    for (const std::string& n : notes_) text += "  " + n + "\n";
    all_.fail(text);
  }
  void note(const char* what, const part& p, int node, bool queued) {
    char text[128];
    std::snprintf(text, sizeof text, "%s memory %zu [0x%zx, 0x%zx) at %p, node %d%s", what, p.memory, p.begin,
                  p.begin + p.bytes, static_cast<void*>(user(p)), node, queued ? ", queued" : "");
    if (notes_.size() == notes_max) notes_.erase(notes_.begin());
    notes_.emplace_back(text);
  }
  void must(gm_status got, const char* call) {
    if (got != GM_OK) wrong(std::string(call) + " gave " + gm_status_string(got) + ": " + gm_last_error());
  }
  void same(const std::uint8_t* seen, const std::uint8_t* wanted, std::size_t bytes, const char* who) {
    if (std::memcmp(seen, wanted, bytes) == 0) return;
    std::size_t at = 0;
    while (at < bytes && seen[at] == wanted[at]) ++at;
    char text[128];
    std::snprintf(text, sizeof text, "%s: byte %zu of %zu is 0x%02x and should be 0x%02x", who, at, bytes, seen[at],
                  wanted[at]);
    wrong(text);
  }

  part any_part() {
    const std::size_t memory = random_.below(all_.shared_.size());
    const std::size_t bytes = all_.shared_[memory].bytes;
    const std::size_t round = stripe_bytes * all_.threads_;
    const std::size_t stripe = random_.below(bytes / round) * round + number_ * stripe_bytes;
    part p{memory, stripe, stripe_bytes};
    if (random_.chance(50)) {
      p.begin += random_.below(stripe_bytes);
      p.bytes = 1 + random_.below(stripe + stripe_bytes - p.begin);
    }
    return p;
  }
  unsigned any_device() { return static_cast<unsigned>(random_.between(1, nodes_ - 1)); }
  gm_stream stream_of(unsigned node) { return streams_[node - 1]; }
  gm_stream any_stream(unsigned node) {
    if (random_.chance(50)) return nullptr;
    return stream_of(node == GM_HOST ? any_device() : node);
  }

  void step() {
    switch (random_.below(16)) {
      case 0:
      case 1:
      case 2:
        return cpu_read();
      case 3:
      case 4:
      case 5:
        return cpu_write();
      case 6:
      case 7:
      case 8:
        return scope();
      case 9:
        return copy_in();
      case 10:
        return copy_out();
      case 11:
        return hint();
      case 12:
        return read_table();
      case 13:
      case 14:
        return own_memory();
      default:
        return settle();
    }
  }

  void cpu_read() {
    last_ = "a CPU read";
    const part p = any_part();
    note("CPU reads", p, 0, false);
    same(user(p), known(p), p.bytes, "the CPU");
  }

  void cpu_write() {
    last_ = "a CPU write";
    const part p = any_part();
    const std::uint64_t seed = random_.next();
    note("CPU writes", p, 0, false);
    fill_with(known(p), p.bytes, seed);
    fill_with(user(p), p.bytes, seed);
  }

  // A kernel over one or two parts and the table, left behind in its stream.
  void scope() {
    last_ = "a scope";
    const unsigned node = any_device();
    part parts[2] = {any_part(), any_part()};
    const bool apart =
        parts[0].memory != parts[1].memory || parts[0].begin / stripe_bytes != parts[1].begin / stripe_bytes;
    const std::size_t count = apart && random_.chance(50) ? 2 : 1;
    auto k = std::make_unique<oracle_kernel>();
    std::vector<gm_access> accesses;
    for (std::size_t i = 0; i < count; ++i)
      accesses.push_back(
          {user(parts[i]), parts[i].bytes, static_cast<gm_mode>(random_.between(GM_READ, GM_READ_WRITE))});
    if (random_.chance(30)) accesses.push_back({all_.table_.base, all_.table_.bytes, GM_READ});
    static constexpr const char* modes[] = {"", "read scope", "write scope", "read-write scope"};
    for (std::size_t i = 0; i < count; ++i) note(modes[accesses[i].mode], parts[i], static_cast<int>(node), true);
    gm_scope begun = nullptr;
    const gm_status got = gm_access_begin(stream_of(node), accesses.data(), accesses.size(), &begun);
    must(got, "gm_access_begin");
    if (got != GM_OK) return;
    for (std::size_t i = 0; i < accesses.size(); ++i) {
      oracle_kernel::piece p;
      p.device = static_cast<std::uint8_t*>(gm_device_pointer(accesses[i].ptr, static_cast<int>(node)));
      p.bytes = accesses[i].bytes;
      p.mode = accesses[i].mode;
      p.seed = random_.next();
      if (p.device == nullptr) wrong("no device pointer in a scope");
      if (i == count) {
        p.expected.resize(p.bytes);
        fill_with(p.expected.data(), p.bytes, all_.seed_);
      } else {
        if (p.mode != GM_WRITE) p.expected.assign(known(parts[i]), known(parts[i]) + p.bytes);
        if (p.mode != GM_READ) fill_with(known(parts[i]), p.bytes, p.seed);
      }
      k->pieces.push_back(std::move(p));
    }
    if (!all_.failed()) must(k->launch(stream_of(node)), "gm_stream_launch");
    if (random_.chance(20)) std::this_thread::yield();
    must(gm_access_end(begun), "gm_access_end");
    kernels_.push_back(std::move(k));
    if (kernels_.size() > 20) settle();
  }

  void settle() {
    if (!notes_.empty() && notes_.back() != "synchronize") notes_.emplace_back("synchronize");
    last_ += ", synchronizing";
    for (gm_stream s : streams_) must(gm_stream_synchronize(s), "gm_stream_synchronize");
    for (const auto& k : kernels_) {
      if (!k->finished.load() || !k->ran.load()) wrong("a kernel did not run");
      if (k->wrong.load() != 0) wrong(k->message());
    }
    kernels_.clear();
    for (const auto& b : buffers_)
      if (!b->expected.empty()) same(b->bytes.data(), b->expected.data(), b->bytes.size(), "a queued copy");
    buffers_.clear();
  }

  void copy_in() {
    last_ = "a copy or fill";
    const part p = any_part();
    const auto node = static_cast<unsigned>(random_.below(nodes_));
    if (random_.chance(30)) {
      const auto value = static_cast<int>(random_.below(256));
      gm_stream queue = any_stream(node);
      note("fill", p, static_cast<int>(node), queue != nullptr);
      std::memset(known(p), value, p.bytes);
      return must(gm_memset(user(p), value, p.bytes, static_cast<int>(node), queue), "gm_memset");
    }
    gm_stream queue = any_stream(node);
    note("copy into", p, static_cast<int>(node), queue != nullptr);
    auto b = std::make_unique<buffer>();
    b->bytes.resize(p.bytes);
    fill_with(b->bytes.data(), p.bytes, random_.next());
    std::memcpy(known(p), b->bytes.data(), p.bytes);
    must(gm_memcpy(user(p), b->bytes.data(), p.bytes, static_cast<int>(node), queue), "gm_memcpy");
    buffers_.push_back(std::move(b));
  }

  void copy_out() {
    last_ = "a copy out";
    const part p = any_part();
    const auto node = static_cast<unsigned>(random_.below(nodes_));
    auto b = std::make_unique<buffer>();
    b->bytes.resize(p.bytes);
    b->expected.assign(known(p), known(p) + p.bytes);
    gm_stream queue = any_stream(node);
    note("copy out of", p, static_cast<int>(node), queue != nullptr);
    must(gm_memcpy(b->bytes.data(), user(p), p.bytes, static_cast<int>(node), queue), "gm_memcpy");
    buffers_.push_back(std::move(b));
  }

  void hint() {
    last_ = "a hint";
    const shared_memory& s = all_.shared_[random_.below(all_.shared_.size())];
    const std::size_t begin = random_.below(s.bytes);
    const std::size_t bytes = 1 + random_.below(std::min<std::size_t>(s.bytes - begin, 4 * page_size));
    const auto node = static_cast<unsigned>(random_.below(nodes_));
    const auto n = static_cast<int>(node);
    if (random_.chance(50)) return must(gm_prefetch(s.base + begin, bytes, n, any_stream(node)), "gm_prefetch");
    const auto advice = static_cast<gm_advice>(random_.between(GM_ADVISE_NORMAL, GM_ADVISE_COLD));
    must(gm_advise(s.base + begin, bytes, advice, n), "gm_advise");
    gm_mapping m{};
    must(gm_query(s.base + begin, &m), "gm_query");
    std::size_t resident = 0;
    must(gm_residency(s.base, s.bytes, n, &resident), "gm_residency");
    if (resident > s.bytes) wrong("more is resident than there is");
  }

  void read_table() {
    last_ = "reading the table";
    const std::size_t begin = random_.below(all_.table_.bytes);
    const std::size_t end = std::min(all_.table_.bytes, begin + 1 + random_.below(2 * page_size));
    for (std::size_t i = begin; i < end; ++i)
      if (all_.table_.base[i] != written_byte(all_.seed_, i)) return wrong("the table has other contents");
  }

  // Memory of this thread alone.
  void own_memory() {
    last_ = "its own memory";
    if (own_ == nullptr) {
      own_known_.assign(page_size / 2 + 1 + random_.below(6 * page_size), 0);  // smaller ones share pages
      own_ = static_cast<std::uint8_t*>(gm_calloc(own_known_.size(), 1));
      if (own_ == nullptr) return wrong("gm_calloc");
    }
    const std::size_t bytes = own_known_.size();
    const unsigned node = any_device();
    switch (random_.below(6)) {
      case 0: {
        const std::uint64_t seed = random_.next();
        fill_with(own_, bytes, seed);
        fill_with(own_known_.data(), bytes, seed);
        return;
      }
      case 1:
        return same(own_, own_known_.data(), bytes, "the CPU, own memory");
      case 2: {
        must(gm_discard(own_, bytes), "gm_discard");
        std::memset(own_known_.data(), 0, bytes / page_size * page_size);
        return;
      }
      case 3: {
        const std::size_t wanted = page_size / 2 + 1 + random_.below(6 * page_size);
        auto* moved = static_cast<std::uint8_t*>(gm_realloc(own_, wanted));
        if (moved == nullptr) return wrong("gm_realloc");
        own_ = moved;
        const std::size_t kept = std::min(wanted, bytes);
        same(own_, own_known_.data(), kept, "after gm_realloc");
        own_known_.resize(kept);
        return;
      }
      case 4: {
        must(gm_pin(own_, bytes, GM_HOST), "gm_pin");
        const gm_status got = gm_prefetch(own_, bytes, static_cast<int>(node), nullptr);
        if (got != GM_ERROR_BUSY) wrong("a prefetch of pinned memory was not refused");
        return must(gm_unpin(own_, bytes, GM_HOST), "gm_unpin");
      }
      default: {
        // Freed with its work still queued.
        must(gm_memset(own_, 7, bytes, static_cast<int>(node), stream_of(node)), "gm_memset");
        gm_free(own_);
        own_ = nullptr;
        return;
      }
    }
  }

  void check_everything() {
    last_ = "everything";
    const std::size_t round = stripe_bytes * all_.threads_;
    for (std::size_t memory = 0; memory < all_.shared_.size(); ++memory)
      for (std::size_t i = 0; i < all_.shared_[memory].bytes / round; ++i) {
        const part p{memory, i * round + number_ * stripe_bytes, stripe_bytes};
        same(user(p), known(p), p.bytes, "at the end");
      }
  }

  struct buffer {
    std::vector<std::uint8_t> bytes;
    std::vector<std::uint8_t> expected;  // empty: a source
  };

  crowd& all_;
  const unsigned number_;
  random_source random_;
  const unsigned nodes_;
  std::vector<gm_stream> streams_;
  std::vector<std::vector<std::uint8_t>> known_;
  std::uint8_t* own_ = nullptr;
  std::vector<std::uint8_t> own_known_;
  std::vector<std::unique_ptr<oracle_kernel>> kernels_;
  std::vector<std::unique_ptr<buffer>> buffers_;
  std::string last_ = "nothing";
  std::vector<std::string> notes_;
};

crowd::crowd(const flavour& f, unsigned threads, std::uint64_t seed) : flavour_(f), threads_(threads), seed_(seed) {
  const std::size_t sizes[] = {5 * page_size, block_size, block_size + 20 * page_size};
  for (std::size_t i = 0; i < shared_.size(); ++i) {
    shared_[i] = {static_cast<std::uint8_t*>(gm_calloc(sizes[i], 1)), sizes[i]};
    if (shared_[i].base == nullptr) fail("no memory");
  }
  table_ = {static_cast<std::uint8_t*>(gm_malloc(10 * page_size)), 10 * page_size};
  if (table_.base == nullptr)
    fail("no memory");
  else
    fill_with(table_.base, table_.bytes, seed);
}

crowd::~crowd() {
  for (const shared_memory& s : shared_) gm_free(s.base);
  gm_free(table_.base);
}

void crowd::fail(const std::string& what) {
  const std::scoped_lock lock(mutex_);
  if (failure_.empty()) {
    failure_ = what + "\nGM_TEST_SEED=" + std::to_string(seed_) + ", flavour " + flavour_.name + "\n" + table_dump();
  }
  failed_.store(true);
}

std::string crowd::run(std::uint64_t steps_each) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < threads_; ++i)
    threads.emplace_back([this, i, steps_each] { member(*this, i).run(steps_each); });
  for (std::thread& t : threads) t.join();
  if (!failed()) {
    const testing::AssertionResult valid = table_is_valid_at_rest();
    if (!valid) fail(valid.message());
  }
  return failure_;
}

}  // namespace gm::test
