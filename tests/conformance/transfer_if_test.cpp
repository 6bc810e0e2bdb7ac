// SPDX-License-Identifier: Apache-2.0
// transfer_if(): a unit that is asked, before its first byte moves, whether what it is to copy has arrived.

#include "backend_fixture.h"

namespace gm::conformance {
namespace {

// The unit's argument: what it answers, and what has been asked and told.
struct question {
  std::atomic<int> answer{GM_OK};
  std::atomic<int> asked{0};
  outcome told;

  static gm_status ask(void* self) {
    auto* const to = static_cast<question*>(self);
    ++to->asked;
    return static_cast<gm_status>(to->answer.load());
  }
  static void record(void* self, gm_status result) { outcome::record(&static_cast<question*>(self)->told, result); }
};

class transfer_if_test : public backend_test {
 protected:
  void SetUp() override {
    backend_test::SetUp();
    if (is_unusable()) return;
    memory = create_piece();
    upload(create_stream(), memory.address, bytes(frame_bytes, 0x77));
  }
  gm_status asking_copy(stream* on, question& about, fence* completion = nullptr) {
    const copy_run run{memory.address, address_of(data.data()), data.size(), direction::host_to_device};
    return table->transfer_if(on, question::ask, nullptr, 0, &run, 1, question::record, &about, completion);
  }
  bytes piece_bytes() { return download(create_stream(), memory.address, data.size()); }

  piece memory{};
  const bytes data = random_bytes(10'000, 50);
};
GM_ON_EVERY_FLAVOUR(transfer_if_test);

TEST_P(transfer_if_test, goes_on_when_the_answer_is_yes) {
  question about;
  fence completion;
  ASSERT_EQ(asking_copy(create_stream(), about, &completion), GM_OK) << error();
  table->fence_wait(completion);
  EXPECT_EQ(about.asked, 1);
  EXPECT_EQ(about.told.calls, 1);
  EXPECT_EQ(about.told.status, GM_OK);
  EXPECT_EQ(piece_bytes(), data);
}

TEST_P(transfer_if_test, moves_nothing_when_the_answer_is_no_and_fails_the_stream) {
  stream* on = create_stream();
  question about;
  about.answer = GM_ERROR_DEVICE;
  ASSERT_EQ(asking_copy(on, about), GM_OK) << error();
  outcome behind;
  ASSERT_EQ(fill(on, memory.address + 20'000, 100, 1, &outcome::record, &behind), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_NE(error(), "");
  EXPECT_EQ(about.told.status, GM_ERROR_DEVICE);
  EXPECT_EQ(behind.status, GM_ERROR_DEVICE);
  EXPECT_EQ(piece_bytes(), bytes(data.size(), 0x77));
  EXPECT_EQ(table->stream_synchronize(on), GM_OK) << "told once";
}

TEST_P(transfer_if_test, is_asked_when_the_work_before_it_is_done) {
  stream* first = create_stream();
  stream* second = create_stream();
  gate& held = close_gate(first);
  struct writer {
    question* about;
    static void decide(void* self, gm_status) { static_cast<writer*>(self)->about->answer = GM_ERROR_BUSY; }
  };
  question about;
  writer before{&about};
  fence decided;
  ASSERT_EQ(table->transfer(first, nullptr, 0, nullptr, 0, writer::decide, &before, &decided), GM_OK);
  ASSERT_EQ(table->stream_wait(second, decided), GM_OK);
  ASSERT_EQ(asking_copy(second, about), GM_OK);
  held.wait_entered();
  EXPECT_EQ(about.asked, 0);
  held.open();
  EXPECT_EQ(table->stream_synchronize(second), GM_ERROR_BUSY) << "what the other stream's callback had decided by then";
  EXPECT_EQ(about.told.status, GM_ERROR_BUSY);
}

TEST_P(transfer_if_test, is_not_asked_on_a_stream_that_has_failed) {
  stream* on = create_stream();
  question first;
  first.answer = GM_ERROR_DEVICE;
  question second;
  ASSERT_EQ(asking_copy(on, first), GM_OK);
  ASSERT_EQ(asking_copy(on, second), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_EQ(second.asked, 0);
  EXPECT_EQ(second.told.status, GM_ERROR_DEVICE);
}

TEST_P(transfer_if_test, on_an_independent_stream_it_fails_alone) {
  stream* on = create_stream(stream_independent);
  question first;
  first.answer = GM_ERROR_DEVICE;
  question second;
  fence completion;
  ASSERT_EQ(asking_copy(on, first), GM_OK);
  ASSERT_EQ(asking_copy(on, second, &completion), GM_OK);
  table->fence_wait(completion);
  EXPECT_EQ(first.told.status, GM_ERROR_DEVICE);
  EXPECT_EQ(second.told.status, GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(piece_bytes(), data);
}

}  // namespace
}  // namespace gm::conformance
