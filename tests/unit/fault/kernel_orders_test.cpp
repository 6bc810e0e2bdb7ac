// SPDX-License-Identifier: Apache-2.0
// kernel_orders_test.cpp - one kernel's fault, one eviction and one CPU access of the same page, in every order.
//
// Everything that happens is a step: what the kernel's thread does to the map and to its element, the host's answer to
// its request, each unit of the device's streams, the eviction, each attempt of the CPU. A run is a sequence of choices
// among the steps that are possible, from the beginning. After each step the table and the map are valid; nobody finds
// what is no longer so; and at the end no store is lost. How long taking a page is patient is a choice, not a time.
// All orders are run: where a run comes to a state that another one has been in, what follows has been run from there,
// and the run ends. state() says what a state is. From each state an end can be reached, so nothing goes round for
// ever. Orders by chance are run to their ends besides, and come to no other states.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fault/cpu_faults.h"
#include "model/live_runtime.h"
#include "unit/mapped_vm.h"
#include "unit/seeded.h"

namespace gm {
namespace {

constexpr unsigned touched = 3;  // the page
constexpr unsigned kernels_byte = 0;
constexpr unsigned cpus_byte = 64;

struct story {
  const char* name;
  bool kernel_writes;  // its byte; else it reads the CPU's
  cpu_access access;   // the CPU writes its byte, or reads the kernel's
  bool device_has_it;  // at the beginning, shown and writable; else the host
  bool evicts;
};
void PrintTo(const story& s, std::ostream* out) { *out << s.name; }

// Which state follows which.
class explored_states {
 public:
  static constexpr std::size_t none = ~std::size_t{0};

  std::size_t count() const { return came_from_.size(); }
  bool contains(const std::string& state) const { return numbers_.contains(state); }
  // Its number, and whether it is new.
  std::pair<std::size_t, bool> come_to(const std::string& state, std::size_t from) {
    const auto [found, is_new] = numbers_.emplace(state, count());
    if (is_new) came_from_.emplace_back();
    if (from != none) came_from_[found->second].push_back(from);
    return {found->second, is_new};
  }
  void ends_at(std::size_t state) { ends_.push_back(state); }
  // States from which no order of steps comes to an end.
  std::size_t without_end() const {
    std::vector<bool> reached(count());
    std::vector<std::size_t> left = ends_;
    std::size_t with_end = 0;
    while (!left.empty()) {
      const std::size_t state = left.back();
      left.pop_back();
      if (reached[state]) continue;
      reached[state] = true;
      ++with_end;
      left.insert(left.end(), came_from_[state].begin(), came_from_[state].end());
    }
    return count() - with_end;
  }

 private:
  std::map<std::string, std::size_t> numbers_;
  std::vector<std::vector<std::size_t>> came_from_;
  std::vector<std::size_t> ends_;
};

class kernel_orders : public test::mapped_vm, public testing::WithParamInterface<story> {
 protected:
  void SetUp() override {}

  // ---- One run ----

  void begin(const story& s) {
    what_ = s;
    start({.devices = 1, .frames = 2});
    faults_.reset();
    offenders_ = std::make_unique<condemned>(*vm);
    faults_ = std::make_unique<cpu_faults>(*vm, *moves, *offenders_);
    cover(true);
    device_shows(s.device_has_it ? one_page(touched) : no_pages, s.device_has_it ? one_page(touched) : no_pages);
    if (s.device_has_it) {
      device_page(here, touched, 1)[kernels_byte] = device_page(here, touched, 1)[cpus_byte] = std::byte{0};
    } else {
      block_guard guard(b().lock);
      ASSERT_EQ(grant_zero_pages_locked(*vm, here, b(), one_page(touched)), status::ok);
    }
    remapping* first = map->take_remapping();
    remappings_ = first;
    map->give_back(first);
    fake(1).hold = true;
    // Ends moves home as they begin: what is in flight there is for other tests.
    fake(1).runs_at_once = fake(1).to_host();
    kernel_ = {};
    cpu_done_ = false;
    evict_ = {};
    evicting_ = false;
    evicted_ = !s.evicts;
    pins_read_at_ = ~0u;
    cpu_tried_at_ = 0;
    truth_of_cpu_ = 0;
    truth_of_kernel_ = 0;
  }

  // ---- The kernel's thread: view.hpp, a step at a time ----

  struct kernel_thread {
    enum at : std::uint8_t { loads, posts, waits, pins, checks, acts, unpins, rereads, over };
    at next = loads;
    std::uint64_t entry = 0;
    std::uint8_t value = 0;
    std::uint8_t truth = 0;
    bool requested = false;
    bool wants_write = false;
    unsigned moved = 0;  // steps done
  };
  bool kernel_can_step() const {
    if (kernel_.next == kernel_thread::over) return false;
    return kernel_.next != kernel_thread::waits || entry(touched) != kernel_.entry;
  }
  void step_kernel() {
    kernel_thread& k = kernel_;
    ++k.moved;
    const std::uint64_t needed = what_.kernel_writes ? GM_MAP_PRESENT | GM_MAP_WRITABLE : GM_MAP_PRESENT;
    switch (k.next) {
      case kernel_thread::loads:
        k.entry = entry(touched);
        if ((k.entry & needed) != needed)
          k.next = kernel_thread::posts;
        else
          k.next = what_.kernel_writes ? kernel_thread::pins : kernel_thread::acts;
        break;
      case kernel_thread::posts:
        k.requested = true;
        k.next = kernel_thread::waits;
        break;
      case kernel_thread::waits:
        k.next = kernel_thread::loads;
        break;
      case kernel_thread::pins:
        ++pins(touched);
        k.next = kernel_thread::checks;
        break;
      case kernel_thread::checks:
        k.next = entry(touched) == k.entry ? kernel_thread::acts : kernel_thread::unpins;
        k.value = k.next == kernel_thread::acts ? 1 : 0;
        break;
      case kernel_thread::acts:
        if (what_.kernel_writes) {
          *place(k.entry, kernels_byte) = std::byte{1};
          truth_of_kernel_ = 1;
          k.next = kernel_thread::unpins;
        } else {
          k.value = static_cast<std::uint8_t>(*place(k.entry, cpus_byte));
          k.truth = truth_of_cpu_;
          k.next = kernel_thread::rereads;
        }
        break;
      case kernel_thread::unpins:
        --pins(touched);
        k.next = k.value == 1 ? kernel_thread::over : kernel_thread::loads;
        break;
      case kernel_thread::rereads:
        k.next = entry(touched) == k.entry ? kernel_thread::over : kernel_thread::loads;
        if (k.next == kernel_thread::over) EXPECT_EQ(k.value, k.truth) << "the kernel read what is no longer so";
        break;
      case kernel_thread::over:
        break;
    }
  }

  // ---- The host's answer: device_faults::serve_block, as one step up to what the device is given ----

  // For a moment after the CPU has got the page it is the CPU's: until it has tried again.
  bool server_can_step() const {
    const bool held = !cpu_done_ && entries().hold_until_ns != cpu_tried_at_;
    return kernel_.requested && !held && (busy() & one_page(touched)) == no_pages;
  }
  void step_server() {
    kernel_.requested = false;
    const page_mask page = one_page(touched);
    if (!on(here, 1).has_frame()) give_frame();
    if (entries().place_plus_one == 0)
      entries().place_plus_one =
          static_cast<std::uint32_t>((on(here, 1).address - vm->device(1).info.pool_base) / page_bytes + 1);
    remapping* shows = nullptr;
    move* m = nullptr;
    shown_copy_plan plan;
    {
      block_guard guard(b().lock);
      const page_mask writes = what_.kernel_writes ? page : no_pages;
      if ((on(here, 1).valid & page) != no_pages) {
        ASSERT_EQ(revoke_cpu_locked(*vm, here, b(), writes), status::ok);
        make_exclusive_locked(*vm, here, b(), 1, writes);
        const page_mask alone = page & on(here, 1).writable & ~valid_elsewhere(b(), vm->nodes, 1);
        shows = begin_showing_locked(*vm, *map, here, b(), {.pages = page, .writable = alone});
      } else {
        m = moves->take(true);
        ASSERT_EQ(begin_move_locked(
                      *vm, here, b(),
                      {.destination = 1, .pages = page, .exclusive = writes, .shown = page, .keep_cpu_mapping = true},
                      *m, plan),
                  status::ok);
      }
    }
    if (shows != nullptr) ASSERT_EQ(submit_remapping(shows), status::ok);
    if (m != nullptr) ASSERT_EQ(submit_move(*moves, m, plan, nullptr), status::ok);
  }

  // ---- The eviction: takes what kernels hold, and, when that is gone, the rest at once ----

  bool eviction_can_step() const {
    if (evicted_ || evicting_) return false;
    if (evict_.told != 0 && !evict_.gone) return false;  // it has given up
    return (busy() & one_page(touched)) == no_pages && on(here, 1).has_frame();
  }
  void step_eviction() {
    bool held = false;
    {
      block_guard guard(b().lock);
      held = map->held_locked(here, one_page(touched)) != no_pages;
    }
    if (held && evict_.told == 0) {
      ASSERT_EQ(take(one_page(touched), evict_), status::ok);
      return;
    }
    evicted_ = true;
    if (held) return;  // somebody was quicker
    lock_guard guard(vm->device(1).admission);
    (void)evict_some(*vm, *moves, vm->device(1), 1);
  }

  // ---- The CPU ----

  bool cpu_can_step() const { return !cpu_done_ && (busy() & one_page(touched)) == no_pages; }
  void step_cpu() {
    cpu_tried_at_ = entries().hold_until_ns;
    const page_index page{first_page(here).value + touched};
    const test::mapped is = kernel->page_at(page);
    if (is == test::mapped::writable || (is == test::mapped::read_only && what_.access == cpu_access::read)) {
      if (what_.access == cpu_access::write) {
        host_page(here, touched)[cpus_byte] = std::byte{1};
        truth_of_cpu_ = 1;
      } else {
        EXPECT_EQ(static_cast<unsigned>(host_page(here, touched)[kernels_byte]), truth_of_kernel_)
            << "the CPU read what is no longer so";
      }
      cpu_done_ = true;
      return;
    }
    offence why{};
    EXPECT_NE(faults_->serve({offset_of(page), what_.access, 1}, why), cpu_faults::outcome::offending);
  }

  // ---- All of it ----

  bool map_can_step() const {
    // Pins are read again and again: once for each state of theirs is enough.
    return fake(1).held_on(fake(1).to_map()) != 0 && (pins(touched) == 0 || pins_read_at_ != kernel_.moved);
  }
  struct choice {
    bool possible;
    void (kernel_orders::*step)();
  };
  void step_map() {
    if (pins(touched) != 0) pins_read_at_ = kernel_.moved;
    set_patience(~std::uint64_t{0});
    fake(1).run_next(fake(1).to_map());
  }
  // The same, by somebody who has had enough of waiting for the kernel's pin.
  bool map_can_give_up() const { return map_can_step() && pins(touched) != 0; }
  void step_map_giving_up() {
    pins_read_at_ = kernel_.moved;
    set_patience(0);
    fake(1).run_next(fake(1).to_map());
  }
  void set_patience(std::uint64_t until_ns) {
    for (transition* t = b().transitions; t != nullptr; t = t->older)
      if (auto* r = static_cast<remapping*>(t); is_remapping(r)) r->give_up_at_ns = until_ns;
  }
  bool is_remapping(const remapping* r) const {
    return r >= remappings_ && r < remappings_ + access_map::remappings_max;
  }
  void step_copy() { fake(1).run_next(fake(1).to_device()); }

  // All that decides what can happen from here on, and how. Generations count only by whether the kernel's is the
  // newest.
  std::string state() const {
    std::string text;
    const auto say = [&](auto... values) { ((text += std::to_string(static_cast<std::uint64_t>(values)) + ","), ...); };
    const kernel_thread& k = kernel_;
    const std::uint64_t now = entry(touched);
    say(k.next, k.value, k.truth, k.requested, now == k.entry, now & 3, k.entry & 3, pins(touched));
    say(cpu_done_, evicted_, evict_.told, evict_.gone, truth_of_cpu_, truth_of_kernel_, pins_read_at_ == k.moved);
    const access_map::block_entries& e = entries();
    say(e.present, e.writable, e.stale, e.place_plus_one != 0, e.hold_until_ns != cpu_tried_at_);
    const block& at_hand = b();
    say(at_hand.readable, at_hand.backed, at_hand.parked, at_hand.willneed, busy());
    const page_index page{first_page(here).value + touched};
    say(static_cast<int>(kernel->page_at(page)));
    for (unsigned n = 0; n < vm->nodes; ++n) {
      const node_pages& there = at_hand.node(n);
      say(there.valid, there.writable, there.dirty, there.has_frame());
      if (n != host_node && !there.has_frame()) continue;
      const std::byte* bytes = n == host_node ? host_page(here, touched) : device_page(here, touched, n);
      say(bytes[kernels_byte], bytes[cpus_byte]);
    }
    for (const transition* t = at_hand.transitions; t != nullptr; t = t->older) {
      say(t->destination, t->pages, t->exclusive);
      const auto* r = static_cast<const remapping*>(t);
      if (const bool remaps = is_remapping(r)) {
        say(remaps, r->takes, r->writable, static_cast<int>(r->wish), r->failures, r->takes && r->done != nullptr);
      } else {
        const auto* m = static_cast<const move*>(t);
        say(remaps, m->source, m->grant, m->filled, m->shown);
      }
    }
    return text + fake(1).held_text();
  }
  // What is in flight ends in its order.
  void abandon() {
    pins(touched) = 0;
    set_patience(0);
    fake(1).run_all();
  }

  // Runs the path, and from its end on the first choice each time, which is appended with the number of others, to the
  // end or to a state that was seen before; or, by chance, to the end.
  void run(std::vector<std::pair<unsigned, unsigned>>& path, explored_states& seen, std::mt19937* random) {
    const std::size_t known = path.size();
    std::size_t here_now = explored_states::none;
    for (std::size_t depth = 0;; ++depth) {
      if (random != nullptr) {
        EXPECT_TRUE(seen.contains(state())) << "state() is not all of it";
      } else if (depth + 1 >= known) {  // the last state of the path, from which another one is come to
        const auto [number, is_new] = seen.come_to(state(), here_now);
        here_now = number;
        if (!is_new && depth >= known) return abandon();
      }
      const choice all[] = {{kernel_can_step(), &kernel_orders::step_kernel},
                            {server_can_step(), &kernel_orders::step_server},
                            {map_can_step(), &kernel_orders::step_map},
                            {map_can_give_up(), &kernel_orders::step_map_giving_up},
                            {fake(1).held_on(fake(1).to_device()) != 0, &kernel_orders::step_copy},
                            {eviction_can_step(), &kernel_orders::step_eviction},
                            {cpu_can_step(), &kernel_orders::step_cpu}};
      std::vector<const choice*> possible;
      for (const choice& c : all)
        if (c.possible) possible.push_back(&c);
      if (possible.empty()) {
        if (random == nullptr) seen.ends_at(here_now);
        break;
      }
      ASSERT_LT(depth, 200u) << "no end";
      if (depth == path.size()) path.emplace_back(random != nullptr ? (*random)() % possible.size() : 0, 0);
      path[depth].second = static_cast<unsigned>(possible.size());
      if (path[depth].first >= possible.size()) path[depth].first = 0;
      (this->*possible[path[depth].first]->step)();
      expect_good();
      if (HasFailure()) return;
    }
    EXPECT_TRUE(kernel_.next == kernel_thread::over) << "the kernel waits for ever";
    EXPECT_TRUE(cpu_done_) << "the CPU waits for ever";
    const page_mask page = one_page(touched);
    for (unsigned n = 0; n < vm->nodes; ++n) {
      if ((on(here, n).valid & page) == no_pages) continue;
      const std::byte* bytes = n == host_node ? host_page(here, touched) : device_page(here, touched, n);
      EXPECT_EQ(static_cast<unsigned>(bytes[kernels_byte]), truth_of_kernel_) << "node " << n;
      EXPECT_EQ(static_cast<unsigned>(bytes[cpus_byte]), truth_of_cpu_) << "node " << n;
    }
  }
  void expect_good() const {
    char why[256] = {};
    EXPECT_TRUE(validate(*vm, false, why, sizeof why)) << why;
    expect_valid_entries();
    // A page that somebody may be in the middle of a store to is nobody else's.
    if (pins(touched) != 0 && kernel_.next == kernel_thread::acts && what_.kernel_writes)
      EXPECT_NE(on(here, 1).valid & one_page(touched), 0u);
  }

  const remapping* remappings_ = nullptr;  // the map's pool
  story what_{};
  kernel_thread kernel_;
  std::unique_ptr<condemned> offenders_;
  std::unique_ptr<cpu_faults> faults_;
  taken evict_;
  bool evicting_ = false;
  bool evicted_ = false;
  bool cpu_done_ = false;
  unsigned pins_read_at_ = 0;
  std::uint64_t cpu_tried_at_ = 0;
  std::uint8_t truth_of_cpu_ = 0;
  std::uint8_t truth_of_kernel_ = 0;
};

// Which orders there are depends on the steps before: so each is the one before with its last choice changed.
TEST_P(kernel_orders, nothing_is_lost_and_nothing_is_stale) {
  const auto by_chance = static_cast<unsigned>(test::scaled(100));
  std::mt19937 random(test::seed());
  std::vector<std::pair<unsigned, unsigned>> path;
  explored_states seen;
  unsigned runs = 0;
  bool all = false;
  while (!all || runs < by_chance) {
    if (all) path.clear();
    begin(GetParam());
    ASSERT_NO_FATAL_FAILURE(run(path, seen, all ? &random : nullptr));
    ++runs;
    if (HasFailure()) {
      std::string steps;
      for (const auto& [taken_choice, of] : path) steps += std::to_string(taken_choice) + " ";
      FAIL() << "run " << runs << ", choices: " << steps;
    }
    if (all) continue;
    while (!path.empty() && path.back().first + 1 >= path.back().second) path.pop_back();
    if (!path.empty()) ++path.back().first;
    if (!path.empty()) continue;
    all = true;
    std::printf("[          ] %zu states in %u runs\n", seen.count(), runs);
    RecordProperty("states", static_cast<int>(seen.count()));
    EXPECT_EQ(seen.without_end(), 0u) << "states that lead to no end";
    runs = 0;
  }
}

INSTANTIATE_TEST_SUITE_P(fault, kernel_orders,
                         testing::Values(story{"both_write", true, cpu_access::write, false, false},
                                         story{"both_write_evicted", true, cpu_access::write, true, true},
                                         story{"kernel_writes_cpu_reads", true, cpu_access::read, true, false},
                                         story{"kernel_writes_cpu_reads_evicted", true, cpu_access::read, true, true},
                                         story{"kernel_reads_cpu_writes", false, cpu_access::write, false, false},
                                         story{"kernel_reads_cpu_writes_evicted", false, cpu_access::write, true, true},
                                         story{"from_the_host_evicted", true, cpu_access::write, false, true}),
                         [](const testing::TestParamInfo<story>& which) { return which.param.name; });

}  // namespace
}  // namespace gm
