// SPDX-License-Identifier: Apache-2.0
#include "platform/thread.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <set>
#include <string>
#include <thread>

#include "base/inject.h"

namespace gm {
namespace {

// What a thread of the runtime sees of itself.
struct portrait {
  thread_id id = 0;
  char name[16] = {};
  sigset_t blocked{};
  cpu_set_t cpus{};

  static void paint(void* self) {
    auto* p = static_cast<portrait*>(self);
    p->id = this_thread();
    pthread_getname_np(pthread_self(), p->name, sizeof p->name);
    pthread_sigmask(SIG_SETMASK, nullptr, &p->blocked);
    sched_getaffinity(0, sizeof p->cpus, &p->cpus);
  }
};

cpu_set_t own_cpus() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  sched_getaffinity(0, sizeof cpus, &cpus);
  return cpus;
}

TEST(thread, has_an_id_of_its_own) {
  portrait p;
  thread t;
  EXPECT_FALSE(t.running());
  ASSERT_EQ(t.start("gmem-test", any_cpu, portrait::paint, &p), status::ok) << last_error();
  EXPECT_TRUE(t.running());
  t.join();
  EXPECT_FALSE(t.running());
  EXPECT_NE(p.id, this_thread());
  EXPECT_GT(p.id, 0);
}

TEST(thread, signals_of_the_program_never_run_on_it) {
  portrait p;
  thread t;
  ASSERT_EQ(t.start("gmem-test", any_cpu, portrait::paint, &p), status::ok);
  t.join();
  for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGALRM, SIGCHLD, SIGPROF})
    EXPECT_EQ(sigismember(&p.blocked, number), 1) << number;
  sigset_t ours;
  pthread_sigmask(SIG_SETMASK, nullptr, &ours);
  EXPECT_EQ(sigismember(&ours, SIGTERM), 0) << "whoever starts one keeps its own mask";
}

TEST(thread, without_a_wish_it_may_run_anywhere) {
  portrait p;
  thread t;
  ASSERT_EQ(t.start("gmem-test", any_cpu, portrait::paint, &p), status::ok);
  t.join();
  const cpu_set_t ours = own_cpus();
  EXPECT_TRUE(CPU_EQUAL(&p.cpus, &ours));
}

// Paints itself again and again until it is told to stop: the pin comes after the start.
struct pinned_portrait : portrait {
  std::atomic<bool> stop{false};
  static void run(void* self) {
    auto* p = static_cast<pinned_portrait*>(self);
    while (!p->stop) std::this_thread::yield();
    paint(static_cast<portrait*>(p));
  }
};

TEST(thread, is_pinned_to_each_cpu_asked_for) {
  for (unsigned n = 0; n < cpu_count(); ++n) {
    pinned_portrait p;
    thread t;
    ASSERT_EQ(t.start("gmem-test", nth_cpu(n), pinned_portrait::run, &p), status::ok);
    p.stop = true;
    t.join();
    EXPECT_EQ(CPU_COUNT(&p.cpus), 1);
    EXPECT_TRUE(CPU_ISSET(static_cast<unsigned>(nth_cpu(n)), &p.cpus));
    EXPECT_STREQ(p.name, "gmem-test");
  }
}

TEST(thread, a_start_that_fails_says_so_and_leaves_nothing_to_join) {
  inject::fail_nth(inject::point::thread_start, 1);
  thread t;
  EXPECT_NE(t.start("gmem-test", any_cpu, portrait::paint, nullptr), status::ok);
  inject::fail_nth(inject::point::thread_start, 0);
  EXPECT_FALSE(t.running());
  EXPECT_NE(std::string(last_error()).find("gmem-test"), std::string::npos);
  t.join();
}

TEST(cpus, are_those_the_process_may_use) {
  const cpu_set_t ours = own_cpus();
  EXPECT_EQ(cpu_count(), static_cast<unsigned>(CPU_COUNT(&ours)));
  std::set<int> each;
  for (unsigned n = 0; n < cpu_count(); ++n) {
    ASSERT_GE(nth_cpu(n), 0);
    EXPECT_TRUE(CPU_ISSET(static_cast<unsigned>(nth_cpu(n)), &ours));
    EXPECT_EQ(nth_cpu(n + cpu_count()), nth_cpu(n)) << "they repeat";
    each.insert(nth_cpu(n));
  }
  EXPECT_EQ(each.size(), cpu_count());
}

TEST(cpus, follow_a_narrower_affinity) {
  const int only = nth_cpu(cpu_count() - 1);
  unsigned count = 0;
  int last = any_cpu;
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(only), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    count = cpu_count();
    last = nth_cpu(5);
  }).join();
  EXPECT_EQ(count, 1U);
  EXPECT_EQ(last, only);
}

}  // namespace
}  // namespace gm
