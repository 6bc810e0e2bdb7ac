// SPDX-License-Identifier: Apache-2.0
// two_pages.h - two managed pages and everything that can be done to them, with what must be true afterwards.
//
// Each page's contents are a fill byte and three words, known here; a kernel or a CPU access that reads checks them.
// check() then looks at every copy that the table calls valid, in the host's memory and in the devices', and at what
// gm_query says, without touching the pages: looking changes nothing.
#pragma once

#include <array>
#include <atomic>
#include <string>

#include "api/runtime.h"
#include "exhaustive/reference_page.h"
#include "model/live_runtime.h"

namespace gm::test {

enum class act : std::uint8_t {
  cpu_read,
  cpu_write,
  host_prefetch,
  discard,
  device_read,       // a GM_READ scope with a kernel that checks the contents
  device_update,     // GM_READ_WRITE, a kernel that checks and changes
  device_overwrite,  // GM_WRITE of the whole page
  device_prefetch,
  device_evict,  // everything on the device
};

struct step {
  act what;
  unsigned device;  // 0 where the act has none
  unsigned page;    // 0 where the act has none
  bool operator==(const step&) const = default;
};

std::string to_string(const step&);

enum class placement : std::uint8_t {
  same_extent,      // neighbours in one allocation and block
  shared_block,     // two allocations in one block
  two_blocks,       // last page of one block and first of the next, one allocation
  two_allocations,  // of a block each
};

class two_pages {
 public:
  static constexpr unsigned device_count = 2;

  explicit two_pages(placement);
  two_pages(const two_pages&) = delete;
  two_pages& operator=(const two_pages&) = delete;
  ~two_pages();

  // Fresh memory: nobody has touched it, nobody has a frame for it.
  void allocate();
  // Nobody holds the pages, as when fresh, but frames for them stay: much quicker.
  void forget();
  void release();
  // Does it and checks what it saw itself. False with why() when something is wrong.
  bool perform(const step&);
  // Compares everything that can be seen with what it should be.
  bool check();
  const std::string& why() const { return why_; }

 private:
  static constexpr std::array<std::size_t, 3> word_at = {0, page_size / 2, page_size - 8};
  struct contents {
    std::uint8_t fill = 0;
    std::array<std::uint64_t, word_at.size()> words{};
  };
  struct page {
    std::byte* bytes = nullptr;
    contents now;
    reference_page protocol;
  };
  struct kernel {
    std::byte* page;
    contents before;
    contents after;
    act what;
    bool seen_right;
  };

  bool run_scope(const step&);
  bool evict(unsigned device);
  bool looks_like(const std::byte* bytes, const contents&) const;
  bool check_page(unsigned which);
  bool wrong(const std::string& what);
  contents changed(const contents&);
  static void run_kernel(void* self, std::size_t, std::size_t);

  placement where_;
  std::array<void*, 2> allocations_{};
  std::array<page, 2> pages_;
  std::array<gm_stream, device_count + 1> streams_{};
  std::uint64_t values_ = 0;
  std::string why_;
};

}  // namespace gm::test
