// SPDX-License-Identifier: Apache-2.0
#include "fault/condemned.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "migrate/host_pages.h"
#include "unit/caught_signal.h"
#include "unit/small_vm.h"

namespace gm {
namespace {

constexpr std::uint64_t wild = 9 * block_bytes + 3 * os_page_bytes;  // of nobody's block

class condemning : public test::small_vm {
 protected:
  void SetUp() override {
    build();
    offenders = std::make_unique<condemned>(*vm);
  }
  unsigned drops() const { return kernel->calls(test::fake_user_mapping::calls_drop); }

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

TEST_F(condemning, the_second_offence_on_one_page_by_one_thread_is_meant) {
  EXPECT_FALSE(offenders->suspected_before(wild, 5));
  EXPECT_FALSE(offenders->suspected_before(wild, 6)) << "another thread";
  EXPECT_FALSE(offenders->suspected_before(wild + os_page_bytes, 5)) << "another page";
  EXPECT_TRUE(offenders->suspected_before(wild + 17, 5));
  EXPECT_FALSE(offenders->suspected_before(wild, 5)) << "and then it begins anew";
}

TEST_F(condemning, poisons_the_os_page_and_remembers_who) {
  offenders->condemn(wild + 5, this_thread(), offence::wild);
  EXPECT_EQ(kernel->poisoned(), std::vector<std::uint64_t>{wild});
  EXPECT_EQ(verdict(wild + 5), signal_verdict::wild);
  EXPECT_NE(said.find("gmem: error: thread "), std::string::npos) << said;
  EXPECT_NE(said.find("not allocated"), std::string::npos) << said;
  EXPECT_EQ(drops(), 1U) << "the poison is gone";
  EXPECT_EQ(verdict(wild), signal_verdict::try_again) << "and forgotten";
}

TEST_F(condemning, another_thread_that_met_the_poison_tries_again) {
  offenders->condemn(wild, this_thread() + 1, offence::wild);
  EXPECT_EQ(verdict(wild), signal_verdict::try_again);
  EXPECT_EQ(said, "");
  EXPECT_EQ(drops(), 1U);
}

TEST_F(condemning, who_is_guilty_no_more_tries_again) {
  const extent& e = allocate(block_bytes);
  offenders->condemn(e.bytes().begin, this_thread(), offence::wild);
  EXPECT_EQ(verdict(e.bytes().begin), signal_verdict::try_again) << "it was allocated meanwhile";
  offenders->condemn(e.bytes().begin, this_thread(), offence::own_scope);
  EXPECT_EQ(verdict(e.bytes().begin), signal_verdict::try_again) << "the scope has ended meanwhile";
  {
    block_guard guard(at(e.first_block()).lock);
    ASSERT_EQ(grant_zero_pages_locked(*vm, e.first_block(), at(e.first_block()), 0x1), status::ok);
  }
  offenders->condemn(e.bytes().begin, this_thread(), offence::no_memory);
  EXPECT_EQ(verdict(e.bytes().begin, cpu_access::write), signal_verdict::try_again) << "there is memory now";
}

TEST_F(condemning, each_offence_has_its_words_and_its_signal) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(offenders->sentence(wild, offence::wild), signal_verdict::wild);
  EXPECT_EQ(offenders->sentence(wild, offence::own_scope), signal_verdict::bus_error);
  EXPECT_EQ(offenders->sentence(wild, offence::no_memory), signal_verdict::bus_error);
  EXPECT_EQ(offenders->sentence(wild, offence::failed_copy), signal_verdict::bus_error);
  const std::string all = testing::internal::GetCapturedStderr();
  for (const char* words : {"SIGSEGV", "gm_access_end", "GM_HOST_BUDGET", "could not be brought"})
    EXPECT_NE(all.find(words), std::string::npos) << words;
  char address[32];
  std::snprintf(address, sizeof address, "%p", static_cast<void*>(vm->memory.user(wild)));
  EXPECT_NE(all.find(address), std::string::npos) << "and names the address";
}

TEST_F(condemning, addresses_that_are_handed_out_again_are_healed) {
  offenders->condemn(wild, this_thread(), offence::wild);
  offenders->heal({0, wild});
  EXPECT_EQ(drops(), 0U) << "others are left alone";
  offenders->heal({wild, wild + 1});
  EXPECT_EQ(drops(), 1U);
  EXPECT_EQ(verdict(wild), signal_verdict::try_again);
}

TEST_F(condemning, when_there_are_too_many_the_oldest_is_healed) {
  for (std::uint64_t i = 0; i < 32; ++i) offenders->condemn(wild + i * os_page_bytes, this_thread(), offence::wild);
  EXPECT_EQ(drops(), 0U);
  offenders->condemn(wild + 32 * os_page_bytes, this_thread(), offence::wild);
  EXPECT_EQ(drops(), 1U);
  EXPECT_EQ(verdict(wild), signal_verdict::try_again);
  EXPECT_EQ(verdict(wild + os_page_bytes), signal_verdict::wild);
}

TEST_F(condemning, where_the_kernel_cannot_poison_the_thread_gets_the_signal_itself) {
  const test::catch_signals signals;
  kernel->can_poison = false;
  EXPECT_EQ(signals.during([&] { offenders->condemn(wild, this_thread(), offence::wild); }), SIGBUS);
  EXPECT_EQ(signals.address(), vm->memory.user(wild));
}

}  // namespace
}  // namespace gm
