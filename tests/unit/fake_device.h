// SPDX-License-Identifier: Apache-2.0
// fake_device.h - a backend of which a test sees and decides everything: when copies run, and which fail.
//
// A unit of work runs inside transfer() itself, or, while `hold` is set, when the test says run_all(). Its memory is
// one range as large as the arena, so that a piece has an address; what is not in a piece may not be copied to or from.
// Implements what the layers below api/ use: pieces, transfers, tables, words, mailboxes, words for errors. What is
// held may also be run one unit at a time, of a stream that the test chooses. Tables are not of pieces, and are read as
// any memory; a piece's lasting address is its address. Threads: one, save that what is held may be run by another.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "base/units.h"
#include "device/backend.h"

namespace gm::test {

class fake_device {
 public:
  explicit fake_device(std::uint64_t arena_bytes) : bytes_(arena_bytes) {
    void* got = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    EXPECT_NE(got, MAP_FAILED);
    base_ = reinterpret_cast<std::uint64_t>(got);
  }
  fake_device(const fake_device&) = delete;
  fake_device& operator=(const fake_device&) = delete;
  ~fake_device() {
    munmap(reinterpret_cast<void*>(base_), bytes_);
    for (const auto& [address, bytes] : tables_) munmap(reinterpret_cast<void*>(address), bytes);
  }

  static const device::backend_table* table() {
    static const device::backend_table only = make_table();
    return &only;
  }
  device::device* handle() { return reinterpret_cast<device::device*>(this); }
  // Streams, told apart by their handles.
  device::stream* to_device() { return reinterpret_cast<device::stream*>(&streams_[0]); }
  device::stream* to_host() { return reinterpret_cast<device::stream*>(&streams_[1]); }
  device::stream* to_map() { return reinterpret_cast<device::stream*>(&streams_[2]); }

  std::uint64_t window_base() const { return base_; }
  std::size_t pieces() const { return pieces_.size(); }
  std::size_t held() const {
    const std::scoped_lock guard(lock_);
    return held_.size();
  }

  std::size_t held_on(const device::stream* on) const {
    const std::scoped_lock guard(lock_);
    return static_cast<std::size_t>(
        std::count_if(held_.begin(), held_.end(), [&](const unit& u) { return u.on == on; }));
  }
  // What is held, in order, as far as it matters for what will happen: two fakes that say the same do the same.
  std::string held_text() const {
    std::string text;
    const std::scoped_lock guard(lock_);
    for (const unit& u : held_) {
      text += "|s" + std::to_string(reinterpret_cast<const stream_record*>(u.on) - streams_);
      for (const device::fill_run& f : u.fills)
        text += "f" + std::to_string(f.destination - base_) + "." + std::to_string(f.bytes);
      for (const device::copy_run& c : u.copies)
        text += "c" + std::to_string(static_cast<int>(c.direction)) + "." + std::to_string(c.bytes);
      for (const device::word_write& w : u.words)
        text +=
            "w" + std::to_string(w.destination) + "." + std::to_string(w.value & (GM_MAP_PRESENT | GM_MAP_WRITABLE));
      text += u.done != nullptr ? "d" : "";
    }
    return text;
  }
  // Runs the first unit that the stream holds.
  void run_next(const device::stream* on, gm_status result = GM_OK) {
    unit next;
    {
      const std::scoped_lock guard(lock_);
      const auto first = std::find_if(held_.begin(), held_.end(), [&](const unit& u) { return u.on == on; });
      ASSERT_NE(first, held_.end()) << "the stream holds nothing";
      next = std::move(*first);
      held_.erase(first);
    }
    run(next, result);
  }

  // Runs what is held, in order, also what that brings in.
  void run_all(gm_status result = GM_OK) {
    for (;;) {
      unit next;
      {
        const std::scoped_lock guard(lock_);
        if (held_.empty()) return;
        next = std::move(held_.front());
        held_.erase(held_.begin());
      }
      run(next, result);
    }
  }

  std::atomic<bool> hold = false;
  const device::stream* runs_at_once = nullptr;  // this one holds nothing
  gm_status refuse = GM_OK;                      // what transfer() returns instead of taking the unit, once
  unsigned refuse_next_but = 0;                  // ... after so many that are taken
  gm_status refuse_words = GM_OK;                // the same of units with words
  gm_status refuse_wait = GM_OK;                 // the same of stream_wait()
  gm_status next_result = GM_OK;                 // how the next unit ends, once
  unsigned refused_pieces = 0;                   // so many piece_create calls find no memory
  std::uint64_t copied_bytes = 0;                // by all units
  std::uint64_t filled_bytes = 0;
  std::vector<device::copy_run> copies;  // of all units, in order
  std::vector<device::fence> awaited;    // by stream_wait() on its streams
  // Which unit a thread is running, of all fakes.
  static inline std::map<std::int32_t, device::fence> running;

 private:
  struct stream_record {
    fake_device* owner;
  };
  struct unit {
    const device::stream* on = nullptr;
    std::vector<device::fill_run> fills;
    std::vector<device::copy_run> copies;
    std::vector<device::word_write> words;
    device::readiness ready = nullptr;
    device::callback done = nullptr;
    void* argument = nullptr;
  };

  void run(const unit& u, gm_status result) {
    if (next_result != GM_OK) result = std::exchange(next_result, GM_OK);
    if (result == GM_OK && u.ready != nullptr) result = u.ready(u.argument);
    if (result == GM_OK) {
      for (const device::fill_run& f : u.fills) std::memset(reinterpret_cast<void*>(f.destination), f.value, f.bytes);
      for (const device::copy_run& c : u.copies)
        std::memcpy(reinterpret_cast<void*>(c.destination), reinterpret_cast<const void*>(c.source), c.bytes);
      for (const device::word_write& w : u.words)
        std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(w.destination))
            .store(w.value, std::memory_order_release);
    }
    if (u.done != nullptr) u.done(u.argument, result);
  }

  gm_status take(unit&& u) {
    if (refuse != GM_OK) return std::exchange(refuse, GM_OK);
    if (refuse_next_but != 0 && --refuse_next_but == 0) refuse = GM_ERROR_DEVICE;
    if (!u.words.empty() && refuse_words != GM_OK) return std::exchange(refuse_words, GM_OK);
    for (const device::fill_run& f : u.fills) {
      filled_bytes += f.bytes;
      expect_in_piece(f.destination, f.bytes);
    }
    for (const device::copy_run& c : u.copies) {
      copied_bytes += c.bytes;
      copies.push_back(c);
      if (c.direction == device::direction::host_to_device) expect_in_piece(c.destination, c.bytes);
      if (c.direction == device::direction::device_to_host) expect_in_piece(c.source, c.bytes);
    }
    if (!hold || u.on == runs_at_once) {
      run(u, GM_OK);
      return GM_OK;
    }
    const std::scoped_lock guard(lock_);
    held_.push_back(std::move(u));
    return GM_OK;
  }

  void expect_in_piece(std::uint64_t address, std::uint64_t bytes) const {
    if (is_in_table(address)) return;
    auto piece = pieces_.upper_bound(address - base_);
    ASSERT_NE(piece, pieces_.begin()) << "outside every piece";
    --piece;
    EXPECT_LE(address - base_ + bytes, piece->first + piece->second * frame_bytes) << "past the end of its piece";
  }

  bool is_in_table(std::uint64_t address) const {
    const auto after = tables_.upper_bound(address);
    return after != tables_.begin() && address < std::prev(after)->first + std::prev(after)->second;
  }
  std::uint64_t reserve(std::uint64_t bytes) {
    void* got = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    EXPECT_NE(got, MAP_FAILED);
    tables_.emplace(reinterpret_cast<std::uint64_t>(got), bytes);
    return reinterpret_cast<std::uint64_t>(got);
  }

  static fake_device& of(device::device* d) { return *reinterpret_cast<fake_device*>(d); }

  static device::backend_table make_table() {
    device::backend_table t{};
    t.abi = device::backend_abi;
    t.name = "fake";
    t.piece_create = [](device::device* d, std::uint64_t offset, std::uint32_t frames, std::uint64_t* address) {
      fake_device& self = of(d);
      if (self.refused_pieces > 0) {
        --self.refused_pieces;
        return GM_ERROR_NO_MEMORY;
      }
      EXPECT_TRUE(self.pieces_.emplace(offset, frames).second) << "a piece at " << offset << " twice";
      *address = self.base_ + offset;
      return GM_OK;
    };
    t.piece_destroy = [](device::device* d, std::uint64_t offset, std::uint32_t frames, std::uint64_t address) {
      fake_device& self = of(d);
      EXPECT_EQ(address, self.base_ + offset);
      const auto found = self.pieces_.find(offset);
      ASSERT_NE(found, self.pieces_.end()) << "no piece at " << offset;
      EXPECT_EQ(found->second, frames);
      self.pieces_.erase(found);
    };
    t.transfer_if = [](device::stream* s, device::readiness ready, const device::fill_run* fills,
                       std::size_t fill_count, const device::copy_run* copies, std::size_t copy_count,
                       device::callback done, void* argument, device::fence* completion) {
      fake_device& self = *reinterpret_cast<stream_record*>(s)->owner;
      if (completion != nullptr) *completion = {s, ++self.position_};
      return self.take({s, {fills, fills + fill_count}, {copies, copies + copy_count}, {}, ready, done, argument});
    };
    t.transfer = [](device::stream* s, const device::fill_run* fills, std::size_t fill_count,
                    const device::copy_run* copies, std::size_t copy_count, device::callback done, void* argument,
                    device::fence* completion) {
      return table()->transfer_if(s, nullptr, fills, fill_count, copies, copy_count, done, argument, completion);
    };
    t.transfer_and_write = [](device::stream* s, const device::fill_run* fills, std::size_t fill_count,
                              const device::copy_run* copies, std::size_t copy_count, const device::word_write* words,
                              std::size_t word_count, device::callback done, void* argument,
                              device::fence* completion) {
      fake_device& self = *reinterpret_cast<stream_record*>(s)->owner;
      if (completion != nullptr) *completion = {s, ++self.position_};
      return self.take({s,
                        {fills, fills + fill_count},
                        {copies, copies + copy_count},
                        {words, words + word_count},
                        nullptr,
                        done,
                        argument});
    };
    t.lasting_address = [](device::device*, std::uint64_t address, std::uint64_t* lasting) {
      *lasting = address;
      return GM_OK;
    };
    t.table_reserve = [](device::device* d, std::uint64_t bytes, std::uint64_t* address) {
      *address = of(d).reserve(bytes);
      return GM_OK;
    };
    t.table_extend = [](device::device*, std::uint64_t, std::uint64_t) { return GM_OK; };
    t.mailbox_create = [](device::device* d, std::uint64_t bytes, void** host, std::uint64_t* address) {
      *address = of(d).reserve(bytes);
      *host = reinterpret_cast<void*>(*address);
      return GM_OK;
    };
    t.mailbox_destroy = [](device::device*, void*) {};
    t.fence_wait = [](device::fence) {};
    // What is held is run by the test, in the order it chooses.
    t.stream_wait = [](device::stream* s, device::fence awaited) {
      fake_device& self = *reinterpret_cast<stream_record*>(s)->owner;
      if (self.refuse_wait != GM_OK) return std::exchange(self.refuse_wait, GM_OK);
      self.awaited.push_back(awaited);
      return GM_OK;
    };
    t.running_unit = [](std::int32_t thread) {
      const auto found = running.find(thread);
      return found == running.end() ? device::fence{} : found->second;
    };
    t.error_text = [] { return "the fake refuses"; };
    return t;
  }

  std::uint64_t bytes_;
  std::uint64_t base_ = 0;
  stream_record streams_[3] = {{this}, {this}, {this}};
  std::map<std::uint64_t, std::uint64_t> tables_;  // address -> bytes; mailboxes too
  std::map<std::uint64_t, std::uint32_t> pieces_;  // offset -> frames
  mutable std::mutex lock_;                        // of what is held: one thread may hand work in while another runs it
  std::vector<unit> held_;
  std::atomic<std::uint64_t> position_ = 0;
};

}  // namespace gm::test
