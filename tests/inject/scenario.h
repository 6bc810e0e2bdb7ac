// SPDX-License-Identifier: Apache-2.0
// scenario.h - a fixed walk through everything that can fail, beside an oracle, for runs in which one thing does fail.
//
// Each step either works, or says in words that it did not and has changed nothing; the walk goes on in any case. What
// a failed step leaves is checked at once by peeking (model/peek.h). Only where the interface says that contents are
// undefined - a GM_WRITE scope whose kernel did not run - does the walk write the memory anew.
#pragma once

#include <csetjmp>
#include <functional>
#include <string>
#include <vector>

#include "model/live_runtime.h"
#include "model/oracle_kernel.h"

namespace gm::test {

// Takes SIGBUS. Before gmem is started: it hands what is an offence to whoever was there before it.
void install_landing();

// Runs access; false when it ended in a SIGBUS.
bool survives(const std::function<void()>& access);

class scenario {
 public:
  // Steps that failed, with their messages.
  const std::vector<std::string>& failures() const { return failures_; }
  // What must not be. Empty: all is well.
  const std::string& wrong() const { return wrong_; }
  void walk();

 private:
  struct memory {
    const char* name;
    std::size_t bytes;
    std::uint8_t* base = nullptr;
    std::vector<std::uint8_t> now = {};
  };

  bool worked(gm_status, const char* what);
  void blame(const std::string& what);
  void look(const char* after);
  void allocate(memory&);
  void release(memory&);
  void resize(memory&, std::size_t bytes);
  void cpu_write(memory&, std::size_t begin, std::size_t bytes);
  void cpu_read(memory&, std::size_t begin, std::size_t bytes);
  void scope(unsigned which, memory&, std::size_t begin, std::size_t bytes, gm_mode);
  void prefetch(memory&, int node, bool queued);
  void fill(memory&, std::size_t begin, std::size_t bytes, int node, bool queued);
  void copy(memory& to, memory& from, std::size_t bytes, int node, bool queued);
  void copy_in(memory& to, std::size_t begin, std::size_t bytes, int node);
  void pin(memory&, std::size_t bytes, int node);
  void advise(memory&, gm_advice, int node);
  void discard(memory&, std::size_t begin, std::size_t bytes);
  void rewrite(memory&, std::size_t begin, std::size_t bytes);
  gm_stream stream(int node) { return streams_[node]; }
  bool synchronize(int node);

  memory small_{"small", 3 * page_size};
  memory odd_{"odd", 2 * page_size + 100};
  memory block_{"block", block_size};
  memory blocks_{"blocks", 2 * block_size};
  memory other_{"other", block_size};
  std::vector<memory*> live_;
  gm_stream streams_[3] = {};
  std::uint64_t seed_ = 1;
  std::vector<std::string> failures_;
  std::string wrong_;
};

}  // namespace gm::test
