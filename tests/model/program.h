// SPDX-License-Identifier: Apache-2.0
// program.h - one thread's random use of everything gmem offers, beside plain arrays that say what must come of it.
//
// Every step is drawn from the seed. The oracle knows, before each call, what the call may answer: it must work, it may
// lack device memory (others' frames are leased or pinned), or it must be refused because of an open scope of this very
// thread or a pin. Device work is queued and left behind; contents are checked by kernels, by the CPU, by copies to
// ordinary memory and, in quiet moments, by looking at every copy that the table calls current.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "model/live_runtime.h"
#include "model/oracle_kernel.h"

namespace gm::test {

class program {
 public:
  program(const flavour&, std::uint64_t seed);
  program(const program&) = delete;
  program& operator=(const program&) = delete;
  ~program();

  // False at the first thing that is wrong; failure() then says what, and after which steps.
  bool run(std::uint64_t steps);
  std::string failure() const;

 private:
  struct allocation {
    std::uint8_t* base = nullptr;
    std::vector<std::uint8_t> now;    // the contents
    std::vector<std::uint64_t> pins;  // of each usable page: bit n, pinned to node n
    unsigned number = 0;
    std::size_t bytes() const { return now.size(); }
  };
  struct range {
    allocation* in = nullptr;
    std::size_t begin = 0;
    std::size_t bytes = 0;
    gm_mode mode = GM_READ;
    std::uint8_t* pointer() const { return in->base + begin; }
    std::uint8_t* expected() const { return in->now.data() + begin; }
    std::size_t first_page() const { return begin / page_size; }
    std::size_t last_page() const { return (begin + bytes - 1) / page_size; }
  };
  struct open_scope {
    gm_scope scope = nullptr;
    unsigned stream = 0;
    std::vector<range> ranges;
    bool lost_memory = false;  // some of it was freed meanwhile
  };
  struct stream {
    gm_stream handle = nullptr;
    unsigned node = 0;
  };
  // A copy out of managed memory that is still queued, or what a queued copy into it comes from.
  struct plain_buffer {
    std::vector<std::uint8_t> bytes;
    std::vector<std::uint8_t> expected;  // empty: a source
  };
  enum class may : std::uint8_t { work, lack_memory, be_busy };

  // What is drawn.
  bool step();
  bool allocate();
  bool release();
  bool resize();
  bool cpu_read();
  bool cpu_write();
  bool through_a_pipe();
  bool scope();
  bool end_scope();
  bool prefetch();
  bool advise();
  bool discard();
  bool pin();
  bool copy();
  bool fill();
  bool query();
  bool residency();
  bool bad_arguments();
  bool synchronize();
  bool quiet();

  // What the oracle knows.
  std::set<std::uintptr_t> frames_of(const std::vector<range>&) const;
  std::set<std::uintptr_t> frames_held(unsigned node, bool& uncertain) const;
  bool own_scope_conflicts(const range&) const;
  bool pinned(const range&, std::uint64_t nodes) const;
  may expected_of(const std::vector<range>&, unsigned node) const;
  bool agrees(may, gm_status, const char* call);

  bool copies_are_right(const allocation&);
  bool contents_are_right(const allocation&);
  bool kernels_were_right();
  bool same(const std::uint8_t* seen, const range&, const char* who);
  bool close_scope(std::size_t which);
  void forget(allocation*);

  allocation* any_allocation();
  range any_range(allocation*, gm_mode);
  gm_mode any_mode() { return static_cast<gm_mode>(random_.between(GM_READ, GM_READ_WRITE)); }
  unsigned any_node() { return static_cast<unsigned>(random_.below(nodes_)); }
  // Null half the time, else of the node; of any device for the host.
  gm_stream any_stream(unsigned node);
  bool wrong(const std::string&);
  void note(const char* format, ...) __attribute__((format(printf, 2, 3)));
  std::string name(const range&) const;

  const flavour flavour_;
  const std::uint64_t seed_;
  random_source random_;
  unsigned nodes_ = 0;
  std::size_t capacity_ = 0;  // frames of a device
  std::vector<stream> streams_;
  std::list<allocation> allocations_;
  std::vector<open_scope> open_;
  std::vector<std::unique_ptr<oracle_kernel>> kernels_;
  std::vector<std::unique_ptr<plain_buffer>> buffers_;
  unsigned next_number_ = 0;
  std::uint64_t steps_done_ = 0;
  int pipe_[2] = {-1, -1};
  std::vector<std::string> notes_;
  std::string failure_;
  std::string table_;  // when it failed
};

}  // namespace gm::test
