// SPDX-License-Identifier: Apache-2.0
// streams.cpp - the fake driver's streams, events and work.
#include <atomic>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include "fake_gpu/machine.h"
#include "fake_gpu/world.h"

namespace gm::fake_gpu {
namespace {

using namespace std::chrono_literals;

// Small sources are read before the call returns, as drivers do.
constexpr std::uint64_t eager_bytes_max = 64 * 1024;

void change_alive(int census::*what, int by) {
  world& w = the_world();
  const std::scoped_lock lock(w.mutex);
  w.alive.*what += by;
}

void delay(stream& self) {
  const std::uint32_t most = the_world().machine.delay_us_max;
  if (most != 0) std::this_thread::sleep_for(std::chrono::microseconds(self.random() % (most + 1)));
}

void run(stream* self) {
  std::unique_lock lock(self->mutex);
  for (;;) {
    self->changed.wait(lock, [&] { return !self->work.empty() || self->is_ending; });
    if (self->work.empty()) return;
    std::function<code()> next = std::move(self->work.front());
    self->work.pop_front();
    lock.unlock();
    delay(*self);
    if (!is_lost(self->device)) {
      if (const code result = next(); result != code::ok) lose(self->device, result);
    }
    next = nullptr;  // what it uses is free before anybody sees that it is done
    lock.lock();
    ++self->finished;
    self->changed.notify_all();
  }
}

// Until everything queued so far is done, or the device is lost.
code drain(stream* which) {
  std::unique_lock lock(which->mutex);
  const std::uint64_t all = which->submitted;
  while (which->finished < all) {
    if (is_lost(which->device)) return loss_of(which->device);
    which->changed.wait_for(lock, 1ms);
  }
  return loss_of(which->device);
}

// True when it has happened; false when the device is lost, or at once where `at_once`.
bool wait(moment& which, int device, bool at_once) {
  std::unique_lock lock(which.mutex);
  while (!which.has_happened && !at_once && !is_lost(device)) which.changed.wait_for(lock, 1ms);
  return which.has_happened;
}

}  // namespace

void submit(stream* on, std::function<code()> work) {
  const std::scoped_lock lock(on->mutex);
  on->work.push_back(std::move(work));
  ++on->submitted;
  on->changed.notify_all();
}

code create_stream(stream** result) {
  if (const code no = enter(api::create_stream); no != code::ok) return leave(no);
  auto* const made = new stream;
  made->device = current_device();
  static std::atomic<std::uint32_t> seed{1};
  made->random.seed(seed.fetch_add(1));
  made->thread = std::thread(run, made);
  change_alive(&census::streams, 1);
  {
    const std::scoped_lock lock(the_world().mutex);
    the_world().streams.insert(made);
  }
  *result = made;
  return code::ok;
}

code destroy_stream(stream* which) {
  {
    const std::scoped_lock lock(the_world().mutex);
    the_world().streams.erase(which);
  }
  {
    const std::scoped_lock lock(which->mutex);
    which->is_ending = true;
    which->changed.notify_all();
  }
  which->thread.join();
  change_alive(&census::streams, -1);
  delete which;
  return code::ok;
}

// While no stream is destroyed.
void drain_all() {
  std::set<stream*> all;
  {
    const std::scoped_lock lock(the_world().mutex);
    all = the_world().streams;
  }
  for (stream* each : all) drain(each);
}

code synchronize_stream(stream* which) {
  if (const code no = refused(api::synchronize_stream, which->device); no != code::ok) return leave(no);
  if (const code no = spoil_captures(); no != code::ok) return leave(no);
  return leave(drain(which));
}

code query_stream(stream* which) {
  if (which == nullptr) return leave(code::invalid_handle);
  if (is_lost(which->device)) return leave(loss_of(which->device));
  const std::scoped_lock lock(which->mutex);
  return which->finished == which->submitted ? code::ok : leave(code::not_ready);
}

code create_event(event** result) {
  if (const code no = enter(api::create_event); no != code::ok) return leave(no);
  *result = new event{current_device(), nullptr};
  change_alive(&census::events, 1);
  return code::ok;
}

void destroy_event(event* which) {
  change_alive(&census::events, -1);
  delete which;
}

code record_event(event* which, stream* on) {
  if (const code no = enter(api::record_event); no != code::ok) return leave(no);
  if (which->device != on->device) return leave(code::invalid_handle);
  auto now = std::make_shared<moment>();
  which->last = now;
  submit(on, [now] {
    const std::scoped_lock lock(now->mutex);
    now->has_happened = true;
    now->changed.notify_all();
    return code::ok;
  });
  return code::ok;
}

code query_event(event* which) {
  if (const code no = refused(api::query_event, which->device); no != code::ok) return leave(no);
  if (const code no = spoil_captures(); no != code::ok) return leave(no);
  if (is_lost(which->device)) return leave(loss_of(which->device));
  return which->last == nullptr || wait(*which->last, which->device, true) ? code::ok : leave(code::not_ready);
}

code synchronize_event(event* which) {
  if (const code no = refused(api::synchronize_event, which->device); no != code::ok) return leave(no);
  if (const code no = spoil_captures(); no != code::ok) return leave(no);
  const std::shared_ptr<moment> last = which->last;
  if (last != nullptr) wait(*last, which->device, false);
  return leave(loss_of(which->device));
}

code wait_for_event(stream* on, event* which) {
  if (const code no = enter(api::wait_for_event); no != code::ok) return leave(no);
  const std::shared_ptr<moment> last = which->last;
  if (last == nullptr) return code::ok;
  submit(on, [last, mine = on->device, theirs = which->device] {
    while (!is_lost(mine)) {
      std::unique_lock lock(last->mutex);
      if (last->has_happened || is_lost(theirs)) return code::ok;
      last->changed.wait_for(lock, 1ms);
    }
    return code::ok;
  });
  return code::ok;
}

code copy(std::uint64_t destination, std::uint64_t source, std::uint64_t bytes, way where, stream* on) {
  if (const code no = enter(api::copy); no != code::ok) return leave(no);
  const int device = on->device;
  if (where == way::on_device) {
    submit(on, [=] {
      std::vector<std::uint8_t> between(bytes);
      const code read = read_device(device, source, between.data(), bytes);
      return read != code::ok ? read : write_device(device, destination, between.data(), bytes);
    });
    return code::ok;
  }
  if (where == way::to_device) {
    const auto* const from = reinterpret_cast<const std::uint8_t*>(source);
    const auto late = [=] { return write_device(device, destination, from, bytes); };
    if (auto locked = use_locked(source, bytes)) {
      submit(on, [=, in_use = std::move(locked)] { return late(); });
      return code::ok;
    }
    if (bytes <= eager_bytes_max) {
      submit(on, [=, early = std::vector<std::uint8_t>(from, from + bytes)] {
        return write_device(device, destination, early.data(), bytes);
      });
      return code::ok;
    }
    the_world().blocked_calls.fetch_add(1);
    submit(on, late);
    return leave(drain(on));
  }
  auto locked = use_locked(destination, bytes);
  const bool is_direct = locked != nullptr;
  submit(on, [=, in_use = std::move(locked)] {
    return read_device(device, source, reinterpret_cast<void*>(destination), bytes);
  });
  if (is_direct) return code::ok;
  the_world().blocked_calls.fetch_add(1);
  return leave(drain(on));
}

code fill(std::uint64_t destination, std::uint8_t value, std::uint64_t bytes, stream* on) {
  if (const code no = enter(api::fill); no != code::ok) return leave(no);
  if (!machine().maps_for_itself && is_mapped(destination)) return code::ok;  // it goes somewhere
  submit(on, [=, device = on->device] {
    const std::atomic<int>& running = the_world().running_kernels[static_cast<std::size_t>(device)];
    while (machine().kernels_take_all && running != 0 && !is_lost(device)) std::this_thread::sleep_for(20us);
    const std::vector<std::uint8_t> values(bytes, value);
    return write_device(device, destination, values.data(), bytes);
  });
  return code::ok;
}

code wait_for_value(stream* on, const std::uint64_t* flag, std::uint64_t least) {
  if (const code no = enter(api::wait_for_value); no != code::ok) return leave(no);
  if (!machine().waits_for_values) return leave(code::not_supported);
  submit(on, [=, device = on->device] {
    const std::atomic_ref<const std::uint64_t> now(*flag);
    for (int i = 0; now.load(std::memory_order_acquire) < least && !is_lost(device); ++i) {
      if (i < 100) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(20us);
      }
    }
    return code::ok;
  });
  return code::ok;
}

code write_value(std::uint64_t destination, std::uint64_t value, stream* on) {
  if (const code no = enter(api::write_value); no != code::ok) return leave(no);
  if (!machine().writes_values) return leave(code::not_supported);
  if (destination % 8 != 0) return leave(code::invalid_value);
  submit(on, [=, device = on->device] { return write_word(device, destination, value); });
  return code::ok;
}

code call_host(stream* on, void (*function)(void*), void* argument) {
  if (const code no = enter(api::call_host); no != code::ok) return leave(no);
  submit(on, [=] {
    function(argument);
    return code::ok;
  });
  return code::ok;
}

code create_flag(std::uint64_t** result) {
  if (const code no = enter(api::create_flag); no != code::ok) return leave(no);
  *result = new std::uint64_t{0};
  change_alive(&census::flags, 1);
  return code::ok;
}

code destroy_flag(std::uint64_t* flag) {
  delete flag;
  change_alive(&census::flags, -1);
  return code::ok;
}

}  // namespace gm::fake_gpu
