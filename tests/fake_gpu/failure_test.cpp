// SPDX-License-Identifier: Apache-2.0
// What GPU backends do when the driver says no, once or for good, at every call.
#include <algorithm>
#include <functional>

#include "fake_gpu/fake_gpu_fixture.h"
#include "unit/seeded.h"

namespace gm::conformance {
namespace {

class gpu_failure_test : public fake_gpu_test {
 protected:
  // What one unit did: it was refused, or its callback came once.
  struct unit_watch {
    gm_status enqueued = GM_OK;
    outcome result;
    bool is_settled() const { return enqueued != GM_OK ? result.calls == 0 : result.calls == 1; }
  };
};

TEST_F(gpu_failure_test, a_unit_refused_at_its_first_run_is_the_callers_error) {
  ASSERT_NO_FATAL_FAILURE(open_machine("batches=0"));
  stream* on = create_stream();
  const piece memory = create_piece();
  registered_bytes host(*this, 8192, 7);
  fail_call(api::copy, 1);
  outcome result;
  fence completion{nullptr, 77};
  EXPECT_EQ(
      copy(on, memory.address, host.address(), 8192, direction::host_to_device, &outcome::record, &result, &completion),
      GM_ERROR_NO_MEMORY);
  EXPECT_EQ(completion, (fence{nullptr, 77}));
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
  EXPECT_EQ(result.calls, 0);
}

TEST_F(gpu_failure_test, a_unit_refused_half_way_fails_and_what_is_behind_is_skipped) {
  ASSERT_NO_FATAL_FAILURE(open_machine("batches=0"));
  stream* on = create_stream();
  const piece memory = create_piece();
  upload(on, memory.address, bytes(8192, 0));
  registered_bytes host(*this, 8192, 7);
  std::vector<copy_run> runs;
  for (std::uint64_t i = 0; i < 4; ++i) {
    runs.push_back({memory.address + i * 2048, host.address() + i * 2048, 2048, direction::host_to_device});
  }
  fail_call(api::copy, 3);
  outcome failed;
  outcome skipped;
  ASSERT_EQ(table->transfer(on, nullptr, 0, runs.data(), runs.size(), &outcome::record, &failed, nullptr), GM_OK);
  ASSERT_EQ(fill(on, memory.address, 8192, 9, &outcome::record, &skipped), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_NO_MEMORY);
  EXPECT_NE(error().find("out of memory"), std::string::npos) << error();
  EXPECT_EQ(failed.status, GM_ERROR_NO_MEMORY);
  EXPECT_EQ(skipped.status, GM_ERROR_NO_MEMORY);
  bytes expected(8192, 0);
  std::fill_n(expected.begin(), 4096, std::uint8_t{7});
  EXPECT_EQ(download(on, memory.address, 8192), expected);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
}

TEST_F(gpu_failure_test, an_event_that_cannot_be_recorded_is_no_hang) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  stream* on = create_stream();
  fail_call(api::record_event, 1);
  outcome result;
  fence completion;
  ASSERT_EQ(table->fence_record(on, &outcome::record, &result, &completion), GM_OK);
  table->fence_wait(completion);
  EXPECT_EQ(result.status, GM_ERROR_DEVICE);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
}

TEST_F(gpu_failure_test, an_illegal_access_loses_the_device_and_nothing_hangs) {
  ASSERT_NO_FATAL_FAILURE(open_machine("devices=2"));
  stream* on = create_stream();
  stream* waiting = create_stream(stream_ordinary, 1);
  stream* other = create_stream(stream_independent);
  gate& held = close_gate(on);
  held.wait_entered();
  const piece memory = create_piece();
  outcome results[4];
  fence end;
  ASSERT_EQ(fill(on, memory.address + 100 * frame_bytes, 100, 1, &outcome::record, &results[0]), GM_OK);
  ASSERT_EQ(fill(on, memory.address, 100, 1, &outcome::record, &results[1], &end), GM_OK);
  ASSERT_EQ(table->stream_wait(waiting, end), GM_OK);
  ASSERT_EQ(table->fence_record(waiting, &outcome::record, &results[2], nullptr), GM_OK);
  held.open();
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_NE(error().find("an illegal memory access was encountered"), std::string::npos) << error();
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE) << "for good";
  EXPECT_EQ(results[0].status, GM_ERROR_DEVICE);
  EXPECT_EQ(results[1].status, GM_ERROR_DEVICE);
  EXPECT_EQ(table->stream_synchronize(waiting), GM_OK) << "the other device is whole";
  EXPECT_EQ(results[2].status, GM_OK);
  // Whatever comes later says the same.
  EXPECT_EQ(fill(other, memory.address, 1, 1, &outcome::record, &results[3]), GM_ERROR_DEVICE);
  EXPECT_NE(error().find("an illegal memory access was encountered"), std::string::npos) << error();
  std::uint64_t address = 0;
  EXPECT_EQ(table->piece_create(devices[0], 50 * frame_bytes, 1, &address), GM_ERROR_DEVICE);
  stream* none = nullptr;
  EXPECT_EQ(table->stream_create(devices[0], stream_ordinary, &none), GM_ERROR_DEVICE);
  native_stream native{};
  ASSERT_EQ(table->stream_native(on, &native), GM_OK);
  EXPECT_TRUE(native.has_failed);
  EXPECT_EQ(results[3].calls, 0);
}

TEST_F(gpu_failure_test, a_device_lost_behind_closed_gates_lets_go_of_everybody) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  std::vector<stream*> streams;
  std::vector<gate*> gates;
  outcome results;
  const piece memory = create_piece();
  bytes host(100'000);
  for (int i = 0; i < 4; ++i) {
    streams.push_back(create_stream(i % 2 == 0 ? stream_ordinary : stream_independent));
    gates.push_back(&close_gate(streams.back()));
    gates.back()->wait_entered();
    ASSERT_EQ(copy(streams.back(), address_of(host.data()), memory.address, host.size(), direction::device_to_host,
                   &outcome::record, &results),
              GM_OK);
    ASSERT_EQ(table->fence_record(streams.back(), &outcome::record, &results, nullptr), GM_OK);
  }
  gpu->lose(0);
  for (gate* each : gates) each->open();
  for (stream* each : streams) EXPECT_EQ(table->stream_synchronize(each), GM_ERROR_DEVICE);
  EXPECT_EQ(results.calls, 8);
  EXPECT_EQ(results.status, GM_ERROR_DEVICE);
  EXPECT_NE(error().find("has fallen off the bus"), std::string::npos) << error();
}

TEST_F(gpu_failure_test, a_device_that_a_thread_cannot_get_to_says_so_in_the_drivers_words) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  stream* on = create_stream();
  const piece memory = create_piece();
  const auto is_told = [&](gm_status status) {
    EXPECT_EQ(status, GM_ERROR_NO_MEMORY);
    EXPECT_NE(error().find("out of memory"), std::string::npos) << error();
  };
  fail_call(api::make_current, 1);
  outcome none;
  is_told(fill(on, memory.address, 100, 1, &outcome::record, &none));
  fail_call(api::exchange_capture_mode, 1);
  std::uint64_t address = 0;
  is_told(table->piece_create(devices[0], 10 * frame_bytes, 1, &address));
  // The third is of the stream's own thread, after this one's way there and back.
  fail_call(api::make_current, 2);
  stream* not_made = nullptr;
  is_told(table->stream_create(devices[0], stream_ordinary, &not_made));
  fail_call(api::make_current, 1);
  device_info about{};
  is_told(table->device_info_get(devices[0], &about));
  EXPECT_EQ(not_made, nullptr);
  EXPECT_EQ(none.calls, 0);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK);
}

TEST_F(gpu_failure_test, an_event_that_nobody_can_wait_for_loses_the_device) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  stream* on = create_stream();
  const piece memory = create_piece();
  outcome result;
  fail_call(api::query_event, 1);
  fail_call(api::synchronize_event, 1);
  ASSERT_EQ(fill(on, memory.address, 100, 1, &outcome::record, &result), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_OK) << "asked again, it can be waited for";
  EXPECT_EQ(result.status, GM_OK);
  gpu->fail_calls(static_cast<int>(api::query_event), 1);
  gpu->fail_calls(static_cast<int>(api::synchronize_event), 1);
  ASSERT_EQ(fill(on, memory.address, 100, 1, &outcome::record, &result), GM_OK);
  EXPECT_EQ(table->stream_synchronize(on), GM_ERROR_DEVICE);
  EXPECT_NE(error().find("out of memory"), std::string::npos) << error();
  EXPECT_EQ(result.status, GM_ERROR_DEVICE);
  stream* none = nullptr;
  EXPECT_EQ(table->stream_create(devices[0], stream_ordinary, &none), GM_ERROR_DEVICE);
}

TEST_F(gpu_failure_test, a_thread_that_cannot_be_set_back_is_told_of) {
  ASSERT_NO_FATAL_FAILURE(open_machine(""));
  // There, and then twice back.
  gpu->fail_calls(static_cast<int>(api::make_current), 2);
  testing::internal::CaptureStderr();
  device_info about{};
  EXPECT_EQ(table->device_info_get(devices[0], &about), GM_OK);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("could not be set back to its own device: out of memory"),
            std::string::npos);
  fail_call(api::make_current, 0);
  EXPECT_EQ(gpu->current_device(), 0);
  gpu->set_current_device(-1);
}

// Whichever thread makes the runtime's calls: the program's, or one of the runtime's that registers host memory.
TEST_F(gpu_failure_test, a_graph_that_another_thread_captures_is_not_spoilt) {
  ASSERT_NO_FATAL_FAILURE(open_backend(""));
  gpu->begin_capture();
  gm::device::device* device = nullptr;
  ASSERT_EQ(table->device_open(opened, 0, &device), GM_OK) << error();
  devices.push_back(device);
  EXPECT_TRUE(can(has_window) && can(registers_host_memory));
  stream* on = create_stream();
  const piece memory = create_piece();
  {
    registered_bytes host(*this, 8192, 7);
    ASSERT_EQ(copy(on, memory.address, host.address(), 8192, direction::host_to_device), GM_OK);
    EXPECT_EQ(download(on, memory.address, 8192), bytes(8192, 7));
  }
  close_session();
  EXPECT_TRUE(gpu->end_capture());
}

// ---- Every call ----------------------------------------------------------------------------------------------------

class every_call_test : public gpu_failure_test, public testing::WithParamInterface<int> {
 protected:
  // A bit of everything on two streams. However it goes, every unit is settled when it returns.
  void use_everything() {
    std::vector<std::unique_ptr<unit_watch>> units;
    const auto watch = [&](const std::function<gm_status(outcome&)>& enqueue) {
      units.push_back(std::make_unique<unit_watch>());
      units.back()->enqueued = enqueue(units.back()->result);
    };
    stream* first = nullptr;
    stream* second = nullptr;
    std::uint64_t address = 0;
    device_info about{};
    static_cast<void>(table->device_info_get(devices[0], &about));
    static_cast<void>(table->stream_create(devices[0], stream_ordinary, &first));
    static_cast<void>(table->stream_create(devices[0], stream_independent, &second));
    const bool has_piece = table->piece_create(devices[0], 0, 1, &address) == GM_OK;
    bytes locked(64 * kib, 1);
    bytes pageables[2] = {bytes(320 * kib, 2), bytes(320 * kib, 2)};
    const bool is_locked = table->host_register(opened, locked.data(), locked.size()) == GM_OK;
    for (stream* on : {first, second}) {
      if (on == nullptr || !has_piece) continue;
      // Apart, since a wait may be refused.
      const std::uint64_t own = address + (on == first ? 0 : mib);
      bytes& pageable = pageables[on == first ? 0 : 1];
      std::vector<copy_run> runs;
      for (std::uint64_t i = 0; i < 4; ++i) {
        runs.push_back({own + i * 100, address_of(locked.data()) + i * 100, 100, direction::host_to_device});
      }
      const fill_run fills[] = {{own, 1000, 3}, {own + 5000, 10, 4}};
      watch([&](outcome& o) {
        return table->transfer(on, fills, 2, runs.data(), runs.size(), &outcome::record, &o, nullptr);
      });
      watch([&](outcome& o) {
        return copy(on, address_of(pageable.data()), own, 50 * kib, direction::device_to_host, &outcome::record, &o);
      });
      // More pieces than one step holds chunks, and more bytes than one thread copies alone.
      for (const direction way : {direction::host_to_device, direction::device_to_host}) {
        std::vector<copy_run> staged;
        for (std::uint64_t i = 0; i < 20; ++i) {
          const std::uint64_t host = address_of(pageable.data()) + i * 16 * kib;
          const std::uint64_t there = own + i * 16 * kib;
          const bool up = way == direction::host_to_device;
          staged.push_back({up ? there : host, up ? host : there, 16 * kib, way});
        }
        watch([&](outcome& o) {
          return table->transfer(on, nullptr, 0, staged.data(), staged.size(), &outcome::record, &o, nullptr);
        });
      }
      static_cast<void>(table->call(
          on, [](void*) {}, nullptr));
      fence end;
      watch([&](outcome& o) { return table->fence_record(on, &outcome::record, &o, &end); });
      stream* const other = on == first ? second : first;
      if (other != nullptr) static_cast<void>(table->stream_wait(other, end));
      if (other != nullptr) {
        watch([&](outcome& o) { return fill(other, own + 500 * kib, 10, 5, &outcome::record, &o); });
      }
    }
    void* mailbox = nullptr;
    if ((about.capabilities & has_access_maps) != 0) mailbox = use_demand({first, second}, address, has_piece, watch);
    for (stream* on : {first, second}) {
      if (on == nullptr) continue;
      static_cast<void>(table->stream_synchronize(on));
      table->stream_destroy(on);
    }
    if (mailbox != nullptr) table->mailbox_destroy(devices[0], mailbox);
    for (const auto& each : units) EXPECT_TRUE(each->is_settled());
    if (is_locked) table->host_unregister(opened, locked.data(), locked.size());
    if (has_piece) table->piece_destroy(devices[0], 0, 1, address);
  }

  // What kernels stand on that fetch their own pages. The mailbox is in use until the streams are done.
  void* use_demand(const std::vector<stream*>& streams, std::uint64_t piece_address, bool has_piece,
                   const std::function<void(const std::function<gm_status(outcome&)>&)>& watch) {
    std::uint64_t at = 0;
    std::uint64_t lasting = 0;
    std::uint64_t mailbox_address = 0;
    void* mailbox = nullptr;
    const bool has_table = table->table_reserve(devices[0], 3 * mib, &at) == GM_OK &&
                           table->table_extend(devices[0], at + mib, 2 * mib) == GM_OK;
    const bool has_mailbox = table->mailbox_create(devices[0], 8 * kib, &mailbox, &mailbox_address) == GM_OK;
    if (has_piece) has_piece = table->lasting_address(devices[0], piece_address, &lasting) == GM_OK;
    if (!has_table || !has_mailbox || !has_piece) return mailbox;
    std::uint64_t word = at + 2 * mib;
    std::uint64_t place = lasting + 600 * kib;  // the streams are not in order
    for (stream* on : streams) {
      if (on == nullptr) continue;
      const fill_run fills[] = {{place, 130 * kib, 0}, {place + 200 * kib, 100, 7}};
      const copy_run in{place + 256 * kib, address_of(mailbox), 4 * kib, direction::host_to_device};
      const word_write words[] = {{word, 1}, {word + 8, 2}, {word + 16, 3}};
      watch([&](outcome& o) {
        return table->transfer_and_write(on, fills, 2, &in, 1, words, 3, &outcome::record, &o, nullptr);
      });
      watch([&](outcome& o) {
        return copy(on, address_of(mailbox) + (word - at) % mib + 4 * kib, word, 24, direction::device_to_host,
                    &outcome::record, &o);
      });
      word += 64;
      place += mib;
    }
    return mailbox;
  }

  // Of a call that everything makes every third n does; with the sanitizers, which are slow, every sixth of all.
  static std::uint64_t step() {
    const auto which = static_cast<api>(GetParam());
    const bool is_everywhere =
        which == api::make_current || which == api::exchange_capture_mode || which == api::query_event;
    return (is_everywhere ? 3u : 1u) * static_cast<std::uint64_t>(std::max(1, 6 / test::scaled(6)));
  }

  // Until it is made no n-th time.
  void fail_at_every(bool finally) {
    for (const char* machine : {"batches=0", "maps=0,waits=0", "batches=0,writes=0"}) {
      bool was_reached = true;
      for (std::uint64_t n = 1; was_reached; n += step()) {
        ASSERT_NO_FATAL_FAILURE(open_machine(machine));
        (finally ? gpu->fail_call_finally : gpu->fail_call)(GetParam(), n);
        use_everything();
        was_reached = gpu->calls_before_failure(GetParam()) == 0;
        gpu->fail_call(GetParam(), 0);
        if (!finally) use_everything();  // and it all works again
        EXPECT_EQ(gpu->last_error(), 0);
        EXPECT_EQ(gpu->current_device(), -1);
        close_session();
        devices.clear();
        ASSERT_EQ(gpu->count(), census{}) << "n = " << n;
      }
    }
  }
};

TEST_P(every_call_test, may_be_refused_once) { fail_at_every(false); }
TEST_P(every_call_test, may_lose_the_device) { fail_at_every(true); }

// At every call that opening a device makes: it says why, or does without, and either way leaves nothing behind.
TEST_P(every_call_test, may_be_refused_while_a_device_is_opened) {
  for (const bool finally : {false, true}) {
    bool was_reached = true;
    for (std::uint64_t n = 1; was_reached; n += step()) {
      ASSERT_NO_FATAL_FAILURE(open_backend("devices=2"));
      (finally ? gpu->fail_call_finally : gpu->fail_call)(GetParam(), n);
      gm::device::device* device = nullptr;
      const gm_status opening = table->device_open(opened, 0, &device);
      if (opening == GM_OK) devices.push_back(device);
      if (opening != GM_OK) EXPECT_NE(error(), "");
      was_reached = gpu->calls_before_failure(GetParam()) == 0;
      gpu->fail_call(GetParam(), 0);
      if (opening == GM_OK) use_everything();
      EXPECT_EQ(gpu->last_error(), 0);
      EXPECT_EQ(gpu->current_device(), -1);
      close_session();
      devices.clear();
      ASSERT_EQ(gpu->count(), census{}) << "n = " << n;
    }
  }
}

constexpr const char* names_of_calls[] = {"ask_device",
                                          "open_context",
                                          "make_current",
                                          "exchange_capture_mode",
                                          "memory_of",
                                          "reaches",
                                          "create_stream",
                                          "synchronize_stream",
                                          "create_event",
                                          "record_event",
                                          "query_event",
                                          "synchronize_event",
                                          "wait_for_event",
                                          "copy",
                                          "fill",
                                          "wait_for_value",
                                          "write_value",
                                          "call_host",
                                          "create_flag",
                                          "allocate",
                                          "reserve",
                                          "create_memory",
                                          "map",
                                          "unmap",
                                          "allow_access",
                                          "lock_host",
                                          "allocate_pinned",
                                          "allocate_shared"};
static_assert(std::size(names_of_calls) == static_cast<std::size_t>(api::count_));

INSTANTIATE_TEST_SUITE_P(fake_gpu, every_call_test, testing::Range(0, static_cast<int>(api::count_)),
                         [](const auto& call) { return std::string(names_of_calls[call.param]); });

}  // namespace
}  // namespace gm::conformance
