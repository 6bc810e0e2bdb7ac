// SPDX-License-Identifier: Apache-2.0
#include "fault/condemned.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <set>
#include <string>
#include <vector>

#include "migrate/host_pages.h"
#include "platform/clock.h"
#include "unit/caught_signal.h"
#include "unit/small_vm.h"

namespace gm {
namespace {

constexpr std::uint64_t wild = 9 * block_bytes + 3 * os_page_bytes;  // of nobody's block

// Whom our signal was sent to.
std::vector<thread_id> asked;
bool reachable = true;

class condemning : public test::small_vm {
 protected:
  void SetUp() override {
    build();
    asked.clear();
    reachable = true;
    offenders = std::make_unique<condemned>(*vm, [](thread_id thread, void*) {
      asked.push_back(thread);
      return reachable;
    });
  }
  unsigned drops() const { return kernel->calls(test::fake_user_mapping::calls_drop); }
  std::size_t poisons() const { return kernel->poisoned().size(); }

  void offend(std::uint64_t offset, offence what = offence::wild, thread_id thread = this_thread()) {
    kernel->forget_wakes();
    offenders->offends(offset, thread, what, vm->starved.now());
    EXPECT_TRUE(kernel->woke(offset)) << "it never sleeps";
  }
  // This thread's own code touches until the page is poisoned: it takes the signal before it touches again.
  void offend_in_program(std::uint64_t offset, offence what = offence::wild) {
    offend(offset, what);
    offend(offset, what);
    EXPECT_EQ(verdict(offset), signal_verdict::try_again);
    EXPECT_EQ(said, "");
    offend(offset, what);
  }
  // A system call of the thread touches until the page is poisoned.
  void offend_in_call(std::uint64_t offset, offence what = offence::wild, thread_id thread = this_thread()) {
    for (int i = 0; i < 3; ++i) offend(offset, what, thread);
  }

  // The verdict, and what was said on standard error.
  signal_verdict verdict(std::uint64_t offset, cpu_access access = cpu_access::read) {
    testing::internal::CaptureStderr();
    const signal_verdict result = offenders->verdict(offset, access);
    said = testing::internal::GetCapturedStderr();
    return result;
  }
  std::unique_ptr<condemned> offenders;
  std::string said;
};

TEST_F(condemning, a_first_offence_is_suspected_a_second_asked_about_a_third_poisoned) {
  offend(wild + 5);
  EXPECT_TRUE(asked.empty()) << "the message may be stale";
  offend(wild + 5);
  EXPECT_EQ(asked, std::vector<thread_id>{this_thread()});
  EXPECT_EQ(poisons(), 0U);
  offend(wild + 5);
  EXPECT_EQ(kernel->poisoned(), std::vector<std::uint64_t>{wild}) << "one OS page";
  EXPECT_EQ(asked.size(), 1U);
}

TEST_F(condemning, in_the_program_s_own_code_the_signal_carries_the_sentence) {
  offend_in_program(wild + 5);
  EXPECT_EQ(drops(), 0U);
  EXPECT_EQ(verdict(wild + 5), signal_verdict::wild);
  EXPECT_NE(said.find("gmem: error: thread "), std::string::npos) << said;
  EXPECT_NE(said.find("not allocated"), std::string::npos) << said;
  EXPECT_EQ(drops(), 1U) << "the poison is gone";
  EXPECT_EQ(verdict(wild), signal_verdict::try_again) << "and forgotten";
  EXPECT_FALSE(offenders->any());
}

TEST_F(condemning, a_system_call_is_over_when_the_signal_comes_and_nothing_is_left) {
  for (const offence what : {offence::wild, offence::own_scope, offence::no_memory, offence::failed_copy}) {
    SCOPED_TRACE(static_cast<int>(what));
    const unsigned before = drops();
    offend_in_call(wild, what);
    EXPECT_EQ(verdict(wild), signal_verdict::try_again);
    EXPECT_EQ(said, "") << "the call has said EFAULT";
    EXPECT_EQ(drops(), before + 1) << "the poison is gone";
    EXPECT_FALSE(offenders->any());
  }
}

TEST_F(condemning, a_thread_that_went_on_takes_its_poison_along) {
  offend_in_call(wild);
  offenders->went_on(this_thread() + 1);
  EXPECT_EQ(drops(), 0U) << "another thread";
  offenders->went_on(this_thread());
  EXPECT_EQ(drops(), 1U);
  offend_in_call(wild);
  offend(wild + os_page_bytes);
  EXPECT_EQ(drops(), 2U) << "so does one that offends elsewhere";
  EXPECT_EQ(verdict(wild), signal_verdict::try_again);
  EXPECT_EQ(said, "");
}

TEST_F(condemning, it_begins_anew_with_each_page_and_each_thread) {
  offend(wild);
  offend(wild, offence::wild, this_thread() + 1);
  EXPECT_TRUE(asked.empty());
  offend(wild + os_page_bytes);
  offend(wild);
  EXPECT_TRUE(asked.empty());
  offend(wild + 17);
  EXPECT_EQ(asked.size(), 1U);
}

TEST_F(condemning, another_thread_that_met_the_poison_tries_again_and_so_does_the_offender) {
  offend_in_call(wild, offence::wild, this_thread() + 1);
  EXPECT_EQ(verdict(wild), signal_verdict::try_again);
  EXPECT_EQ(said, "");
  EXPECT_EQ(drops(), 1U);
  EXPECT_EQ(poisons(), 1U);
  offend(wild, offence::wild, this_thread() + 1);
  EXPECT_EQ(poisons(), 2U) << "its page was healed before it came back to it";
}

TEST_F(condemning, who_is_guilty_no_more_tries_again) {
  const extent& e = allocate(block_bytes);
  const std::uint64_t begin = e.bytes().begin;
  offend_in_program(begin, offence::wild);
  EXPECT_EQ(verdict(begin), signal_verdict::try_again) << "it was allocated meanwhile";
  offend_in_program(begin, offence::own_scope);
  EXPECT_EQ(verdict(begin), signal_verdict::try_again) << "the scope has ended meanwhile";
  offend_in_program(begin, offence::own_stream);
  EXPECT_EQ(verdict(begin), signal_verdict::try_again) << "the same";
  offend_in_program(begin, offence::circle);
  EXPECT_EQ(verdict(begin), signal_verdict::try_again) << "the same";
  {
    block_guard guard(at(e.first_block()).lock);
    ASSERT_EQ(grant_zero_pages_locked(*vm, e.first_block(), at(e.first_block()), 0x1), status::ok);
  }
  offend_in_program(begin, offence::failed_copy);
  EXPECT_EQ(verdict(begin, cpu_access::write), signal_verdict::try_again) << "somebody has brought it";
}

TEST_F(condemning, without_memory_one_is_guilty_until_something_has_changed) {
  const std::uint64_t begin = allocate(block_bytes).bytes().begin;
  offend_in_program(begin, offence::no_memory);
  EXPECT_EQ(verdict(begin), signal_verdict::bus_error);
  EXPECT_NE(said.find("no host memory"), std::string::npos) << said;
  offend_in_program(begin, offence::no_memory);
  vm->starved.changed(*vm->cpu);
  EXPECT_EQ(verdict(begin), signal_verdict::try_again) << "there may be memory now";
  offend_in_program(begin, offence::failed_copy);
  EXPECT_EQ(verdict(begin), signal_verdict::bus_error);
}

TEST_F(condemning, each_offence_has_its_words_and_its_signal) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(offenders->sentence(wild, offence::wild), signal_verdict::wild);
  EXPECT_EQ(offenders->sentence(wild, offence::own_scope), signal_verdict::bus_error);
  EXPECT_EQ(offenders->sentence(wild, offence::own_stream), signal_verdict::bus_error);
  EXPECT_EQ(offenders->sentence(wild, offence::circle), signal_verdict::bus_error);
  EXPECT_EQ(offenders->sentence(wild, offence::no_memory), signal_verdict::bus_error);
  EXPECT_EQ(offenders->sentence(wild, offence::failed_copy), signal_verdict::bus_error);
  const std::string all = testing::internal::GetCapturedStderr();
  for (const char* words :
       {"SIGSEGV", "gm_access_end", "gm_device_pointer", "waits for a scope", "GM_HOST_BUDGET", "could not be brought"})
    EXPECT_NE(all.find(words), std::string::npos) << words;
  char address[32];
  std::snprintf(address, sizeof address, "%p", static_cast<void*>(vm->memory.user(wild)));
  EXPECT_NE(all.find(address), std::string::npos) << "and names the address";
}

TEST_F(condemning, addresses_that_are_handed_out_again_are_healed) {
  offend_in_call(wild);
  offenders->heal({0, wild});
  EXPECT_EQ(drops(), 0U) << "others are left alone";
  offenders->heal({wild, wild + 1});
  EXPECT_EQ(drops(), 1U);
  EXPECT_EQ(verdict(wild), signal_verdict::try_again);
  EXPECT_EQ(said, "");
}

// The page is handed out between the decision to poison it and the poison: the new owner must not find it.
TEST_F(condemning, what_is_healed_while_it_is_poisoned_stays_healed) {
  offend(wild);
  offend(wild);
  kernel->at_poison = [&] { offenders->heal({wild, wild + 1}); };
  offend(wild);
  EXPECT_EQ(poisons(), 1U);
  EXPECT_EQ(drops(), 2U) << "by heal, and once more behind the poison";
  EXPECT_FALSE(offenders->any());
}

// SIGBUS is blocked, or the program has taken our handler's place.
TEST_F(condemning, where_the_signal_does_not_come_the_poison_ends_with_its_time) {
  const std::uint64_t then = now_ns();
  offend_in_call(wild);
  offenders->heal_overdue(then);
  EXPECT_EQ(drops(), 0U);
  offenders->heal_overdue(now_ns() + condemned::poisoned_ns);
  EXPECT_EQ(drops(), 1U);
  EXPECT_EQ(poisons(), 1U);
  offend(wild);
  EXPECT_EQ(poisons(), 2U) << "it had not come back to it";
  offenders->heal_overdue(now_ns() + condemned::poisoned_ns + 1);
  EXPECT_EQ(drops(), 1U) << "twice as long";
  offenders->heal_overdue(now_ns() + 2 * condemned::poisoned_ns);
  EXPECT_EQ(drops(), 2U);
  offenders->heal_overdue(now_ns() + 2 * condemned::forgotten_ns);
  EXPECT_FALSE(offenders->any()) << "and forgotten";
}

TEST_F(condemning, who_cannot_be_asked_is_poisoned_all_the_same) {
  reachable = false;
  for (int i = 0; i < 3; ++i) offend(wild);
  EXPECT_EQ(poisons(), 1U);
  EXPECT_EQ(verdict(wild), signal_verdict::wild) << "our handler was called by the one in its place";
}

TEST_F(condemning, more_offenders_than_entries_have_their_turn_one_after_the_other) {
  const auto first = static_cast<thread_id>(1'000'000);
  constexpr unsigned more = 5;
  constexpr unsigned count = condemned::capacity + more;
  std::set<thread_id> through;
  for (unsigned round = 0; round < 8 && through.size() < count; ++round)
    for (unsigned i = 0; i < count; ++i) {
      const auto thread = static_cast<thread_id>(first + i);
      if (through.contains(thread)) continue;
      const std::size_t before = poisons();
      offend(wild + i * os_page_bytes, offence::wild, thread);
      if (poisons() == before) continue;
      through.insert(thread);  // EFAULT, and on with it
      offenders->went_on(thread);
    }
  EXPECT_EQ(through.size(), count);
  EXPECT_EQ(drops(), count) << "nothing stays poisoned";
  EXPECT_FALSE(offenders->any());
}

TEST_F(condemning, where_the_kernel_cannot_poison_the_thread_gets_the_signal_itself) {
  const test::catch_signals signals;
  kernel->can_poison = false;
  offend(wild);
  offend(wild);
  EXPECT_EQ(verdict(wild), signal_verdict::try_again);
  EXPECT_EQ(signals.during([&] { offenders->offends(wild, this_thread(), offence::wild, 0); }), SIGBUS);
  EXPECT_EQ(signals.address(), vm->memory.user(wild));
}

}  // namespace
}  // namespace gm
