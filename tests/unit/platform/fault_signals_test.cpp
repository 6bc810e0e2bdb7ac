// SPDX-License-Identifier: Apache-2.0
#include "platform/fault_signals.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "base/units.h"
#include "unit/caught_signal.h"

namespace gm {
namespace {

// An OS page of a file that ends before it: touching it is a real SIGBUS, until the file is made longer.
class short_file {
 public:
  short_file() : fd_(memfd_create("short", MFD_CLOEXEC)) {
    page_ = mmap(nullptr, os_page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  }
  ~short_file() {
    munmap(page_, os_page_bytes);
    close(fd_);
  }
  volatile unsigned char* byte(std::size_t n = 0) const { return static_cast<unsigned char*>(page_) + n; }
  void lengthen() const { ASSERT_EQ(ftruncate(fd_, os_page_bytes), 0); }

 private:
  int fd_;
  void* page_;
};

// What the callback was asked, and what it is to answer.
std::atomic<signal_verdict> answer{signal_verdict::not_ours};
std::atomic<void*> asked_address{nullptr};
std::atomic<cpu_access> asked_access{cpu_access::read};
std::atomic<int> asked{0};
std::atomic<const short_file*> to_lengthen{nullptr};

signal_verdict ask(void* address, cpu_access access) {
  asked_address = address;
  asked_access = access;
  ++asked;
  errno = E2BIG;
  if (const short_file* file = to_lengthen; file != nullptr) file->lengthen();
  return answer;
}

class fault_signals : public testing::Test {
 protected:
  fault_signals() {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    answer = signal_verdict::not_ours;
    asked_address = nullptr;
    asked = 0;
    to_lengthen = nullptr;
  }
  void TearDown() override { remove_fault_signals(); }
  short_file file;
};
using fault_signals_death_test = fault_signals;

TEST_F(fault_signals, try_again_repeats_the_access) {
  ASSERT_EQ(install_fault_signals(ask), status::ok);
  answer = signal_verdict::try_again;
  to_lengthen = &file;
  errno = 0;
  EXPECT_EQ(*file.byte(7), 0);
  EXPECT_EQ(errno, 0) << "a handler leaves errno alone";
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(asked_address, const_cast<unsigned char*>(file.byte(7)));
  EXPECT_EQ(asked_access.load(), cpu_access::read);
}

TEST_F(fault_signals, a_write_is_told_from_a_read) {
  ASSERT_EQ(install_fault_signals(ask), status::ok);
  answer = signal_verdict::try_again;
  to_lengthen = &file;
  *file.byte() = 1;
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(asked_access.load(), cpu_access::write);
}

TEST_F(fault_signals, what_is_not_ours_goes_to_the_program) {
  const test::catch_signals program;
  ASSERT_EQ(install_fault_signals(ask), status::ok);
  EXPECT_EQ(program.during([&] { (void)*file.byte(9); }), SIGBUS);
  EXPECT_EQ(program.address(), const_cast<unsigned char*>(file.byte(9))) << "with the kernel's own words";
  EXPECT_EQ(asked, 1);
  remove_fault_signals();
}

TEST_F(fault_signals, a_bus_error_of_ours_goes_to_the_program) {
  const test::catch_signals program;
  ASSERT_EQ(install_fault_signals(ask), status::ok);
  answer = signal_verdict::bus_error;
  EXPECT_EQ(program.during([&] { (void)*file.byte(); }), SIGBUS);
  remove_fault_signals();
}

TEST_F(fault_signals, a_wild_touch_goes_to_the_programs_sigsegv_handler) {
  const test::catch_signals program;
  ASSERT_EQ(install_fault_signals(ask), status::ok);
  answer = signal_verdict::wild;
  EXPECT_EQ(program.during([&] { (void)*file.byte(3); }), SIGSEGV);
  EXPECT_EQ(program.address(), const_cast<unsigned char*>(file.byte(3)));
  remove_fault_signals();
}

std::atomic<int> plain_calls{0};

TEST_F(fault_signals, a_handler_without_siginfo_is_called_its_way) {
  struct sigaction plain {};
  plain.sa_handler = [](int) {
    ++plain_calls;
    to_lengthen.load()->lengthen();
  };
  struct sigaction before {};
  sigaction(SIGBUS, &plain, &before);
  ASSERT_EQ(install_fault_signals([](void*, cpu_access) { return signal_verdict::not_ours; }), status::ok);
  to_lengthen = &file;
  plain_calls = 0;
  EXPECT_EQ(*file.byte(), 0);
  EXPECT_EQ(plain_calls, 1);
  remove_fault_signals();
  sigaction(SIGBUS, &before, nullptr);
}

TEST_F(fault_signals, remove_puts_the_earlier_handler_back) {
  const test::catch_signals program;
  struct sigaction ours {};
  struct sigaction back {};
  struct sigaction before {};
  sigaction(SIGBUS, nullptr, &before);
  ASSERT_EQ(install_fault_signals(ask), status::ok);
  sigaction(SIGBUS, nullptr, &ours);
  EXPECT_NE(ours.sa_sigaction, before.sa_sigaction);
  remove_fault_signals();
  sigaction(SIGBUS, nullptr, &back);
  EXPECT_EQ(back.sa_sigaction, before.sa_sigaction);
  EXPECT_EQ(back.sa_flags & SA_SIGINFO, before.sa_flags & SA_SIGINFO);
}

TEST_F(fault_signals, remove_leaves_a_handler_that_came_later) {
  struct sigaction before {};
  sigaction(SIGBUS, nullptr, &before);
  ASSERT_EQ(install_fault_signals(ask), status::ok);
  struct sigaction later {};
  later.sa_handler = [](int) {};
  sigaction(SIGBUS, &later, nullptr);
  remove_fault_signals();
  struct sigaction now {};
  sigaction(SIGBUS, nullptr, &now);
  EXPECT_EQ(now.sa_handler, later.sa_handler);
  sigaction(SIGBUS, &before, nullptr);
}

TEST_F(fault_signals_death_test, without_a_handler_it_kills_as_ever) {
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        (void)install_fault_signals(ask);
        (void)*file.byte();
      },
      testing::KilledBySignal(SIGBUS), "");
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        answer = signal_verdict::wild;
        (void)install_fault_signals(ask);
        (void)*file.byte();
      },
      testing::KilledBySignal(SIGSEGV), "");
}

TEST_F(fault_signals_death_test, ignoring_does_not_save_an_access_that_cannot_be) {
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_IGN);
        (void)install_fault_signals(ask);
        (void)*file.byte();
      },
      testing::KilledBySignal(SIGBUS), "");
}

TEST_F(fault_signals_death_test, a_sent_signal_that_the_program_ignores_is_ignored) {
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_IGN);
        (void)install_fault_signals(ask);
        raise(SIGBUS);
        _exit(7);
      },
      testing::ExitedWithCode(7), "");
}

// ---- As the kernel delivers -----------------------------------------------------------------------------------------

// A handler of the program that makes its file longer, so that the access goes on, and notes what was blocked in it.
std::atomic<bool> bus_blocked{false};
std::atomic<bool> user_blocked{false};
std::atomic<int> handled{0};

void note_and_mend(int, siginfo_t*, void*) {
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  bus_blocked = sigismember(&blocked, SIGBUS) == 1;
  user_blocked = sigismember(&blocked, SIGUSR1) == 1;
  ++handled;
  to_lengthen.load()->lengthen();
}

struct sigaction mending(int flags) {
  struct sigaction program {};
  program.sa_sigaction = note_and_mend;
  program.sa_flags = SA_SIGINFO | flags;
  sigemptyset(&program.sa_mask);
  sigaddset(&program.sa_mask, SIGUSR1);
  return program;
}

signal_verdict nothing_of_ours(void*, cpu_access) { return signal_verdict::not_ours; }

// SIGBUS is as it was afterwards.
class passing_on : public fault_signals {
 protected:
  passing_on() {
    sigaction(SIGBUS, nullptr, &before_);
    handled = 0;
    to_lengthen = &file;
  }
  void TearDown() override {
    remove_fault_signals();
    sigaction(SIGBUS, &before_, nullptr);
  }
  void start_over(const struct sigaction& program) {
    sigaction(SIGBUS, &program, nullptr);
    ASSERT_EQ(install_fault_signals(nothing_of_ours), status::ok);
  }

 private:
  struct sigaction before_ {};
};
using passing_on_death_test = passing_on;

TEST_F(passing_on, the_handlers_mask_is_blocked_while_it_runs) {
  start_over(mending(0));
  (void)*file.byte();
  EXPECT_EQ(handled, 1);
  EXPECT_TRUE(user_blocked);
  EXPECT_TRUE(bus_blocked);
  sigset_t now;
  pthread_sigmask(SIG_BLOCK, nullptr, &now);
  EXPECT_EQ(sigismember(&now, SIGUSR1), 0) << "and not afterwards";
  EXPECT_EQ(sigismember(&now, SIGBUS), 0);
}

TEST_F(passing_on, sa_nodefer_leaves_its_own_signal_open) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer calls handlers itself, with its own flags: the signal is blocked whatever we ask";
#endif
  start_over(mending(SA_NODEFER));
  (void)*file.byte();
  EXPECT_EQ(handled, 1);
  EXPECT_TRUE(user_blocked);
  EXPECT_FALSE(bus_blocked);
}

TEST_F(passing_on_death_test, sa_resethand_is_for_once) {
  EXPECT_EXIT(
      {
        start_over(mending(static_cast<int>(SA_RESETHAND)));
        (void)*file.byte();
        if (handled != 1) _exit(1);
        const short_file second;
        to_lengthen = &second;
        (void)*second.byte();
        _exit(2);
      },
      testing::KilledBySignal(SIGBUS), "");
  EXPECT_EXIT(
      {
        start_over(mending(static_cast<int>(SA_RESETHAND)));
        (void)*file.byte();
        remove_fault_signals();
        struct sigaction back {};
        sigaction(SIGBUS, nullptr, &back);
        _exit(back.sa_handler == SIG_DFL ? 7 : 1);
      },
      testing::ExitedWithCode(7), "");
}

TEST_F(passing_on_death_test, a_blocked_signal_of_an_access_kills) {
  EXPECT_EXIT(
      {
        signal(SIGSEGV, [](int) { _exit(1); });
        sigset_t segv;
        sigemptyset(&segv);
        sigaddset(&segv, SIGSEGV);
        pthread_sigmask(SIG_BLOCK, &segv, nullptr);
        answer = signal_verdict::wild;
        to_lengthen = nullptr;
        (void)install_fault_signals(ask);
        (void)*file.byte();
        _exit(2);
      },
      testing::KilledBySignal(SIGSEGV), "");
}

// ---- Started again under a handler that passes signals on -----------------------------------------------------------

struct sigaction found {};  // by the program's handler, when it was installed

void pass_on_what_was_found(int number, siginfo_t* info, void* context) {
  if (++handled > 3) _exit(3);
  if (found.sa_flags & SA_SIGINFO)
    found.sa_sigaction(number, info, context);
  else
    _exit(4);
}

void chain() {
  struct sigaction program {};
  program.sa_sigaction = pass_on_what_was_found;
  program.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &program, &found);
}

// gmem runs, the program puts its handler over ours, and gmem is stopped and started again.
void start_again_under_a_chain() {
  (void)install_fault_signals(nothing_of_ours);
  chain();
  remove_fault_signals();
  (void)install_fault_signals(nothing_of_ours);
}

TEST_F(passing_on_death_test, a_handler_over_ours_gets_a_signal_once_and_then_who_was_first) {
  EXPECT_EXIT(
      {
        const struct sigaction first = mending(0);
        sigaction(SIGBUS, &first, nullptr);
        start_again_under_a_chain();
        (void)*file.byte();
        _exit(handled == 2 ? 7 : 1);
      },
      testing::ExitedWithCode(7), "");
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        start_again_under_a_chain();
        (void)*file.byte();
        _exit(1);
      },
      testing::KilledBySignal(SIGBUS), "");
}

TEST_F(passing_on, ours_put_back_by_the_program_is_taken_over) {
  start_over(mending(0));
  struct sigaction ours {};
  sigaction(SIGBUS, nullptr, &ours);
  remove_fault_signals();
  sigaction(SIGBUS, &ours, nullptr);
  ASSERT_EQ(install_fault_signals(nothing_of_ours), status::ok);
  (void)*file.byte();
  EXPECT_EQ(handled, 1) << "what was before us stands";
}

}  // namespace
}  // namespace gm
