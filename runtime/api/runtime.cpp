// SPDX-License-Identifier: Apache-2.0
#include "api/runtime.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "base/log.h"
#include "device/backend_loader.h"
#include "evict/reclaim.h"
#include "frame/shared_addresses.h"
#include "platform/clock.h"

namespace gm {
namespace {

enum class life : std::uint8_t { never, live, down, forked };

mutex<lock_rank::life> life_lock;
std::atomic<runtime*> instance{nullptr};  // what calls see: it serves faults already
std::atomic<runtime*> serving{nullptr};   // what the SIGBUS handler sees: from before its installation
std::atomic<life> state{life::never};

// SIGBUS in the arena: a condemned address, or in `inline` mode a fault to serve.
signal_verdict on_bus_error(void* address, cpu_access access) {
  runtime* rt = serving.load(std::memory_order_acquire);
  if (rt == nullptr || !rt->vm.memory.contains(address)) return signal_verdict::not_ours;
  const std::uint64_t offset = round_down(rt->vm.memory.offset_of(address), os_page_bytes);
  if (rt->config().fault_mode == fault_mode::in_line) return rt->faults.handle_in_line({offset, access, this_thread()});
  return rt->offenders.verdict(offset, access);
}

// The child has neither the arena nor the threads. What is left is told apart, never used.
void forget_in_child() {
  instance.store(nullptr);
  if (serving.exchange(nullptr) != nullptr) state.store(life::forked);
}

thread_local status why_not = status::ok;  // of this thread's last failed current()

status not_live(life now) {
  if (now == life::forked)
    return fail(status::unsupported,
                "this is a forked child: managed memory stays with the parent (use exec, or fork "
                "before the first call of gmem)");
  return fail(status::invalid_argument, "gmem was shut down: call gm_init to start it again");
}

}  // namespace

runtime::~runtime() {
  if (handlers_ != nullptr) handlers_->stop();
  registrar.stop();
  if (signals_) remove_fault_signals();
  for (auto& served : demand_)
    if (served != nullptr) served->stop();
  for (auto& device : vm.devices) {
    if (device == nullptr || device->handle == nullptr) continue;
    for (device::stream* stream : {device->to_device, device->to_host, device->to_map})
      if (stream != nullptr) device->api->stream_destroy(stream);
  }
  for (auto& served : demand_) served.reset();
  // Its addresses may be a device's, and are given back before that goes.
  vm.memory.destroy();
  for (auto& device : vm.devices)
    if (device != nullptr && device->handle != nullptr) device->api->device_close(device->handle);
  for (const loaded_backend& backend : backends_) backend.api->close(backend.handle);
}

status runtime::start(const gm_options* given) {
  if (const status s = read_options(given, config_); s != status::ok) return s;
  set_log_level(config_.log);
  if (const status s = open_backends(); s != status::ok) return s;
  if (const status s = create_arena(); s != status::ok) return s;
  if (const status s = kernel_.open(vm.memory, config_.fault_mode); s != status::ok) return s;
  vm.cpu = &kernel_;
  vm.retry_deferred_frees = retry_deferred_frees;
  vm.retry_free = retry_free;
  vm.host.create(config_.host_budget_bytes / page_bytes);
  if (const status s = vm.table.create(config_.arena_bytes, vm.nodes, vm.stats.metadata_bytes); s != status::ok)
    return s;
  vm.extents.create(config_.arena_bytes, vm.memory.user_base());
  if (const status s = moves.create(vm.stats.metadata_bytes); s != status::ok) return s;
  return start_registrar();
}

// At a device's own addresses where one has a window that the host may share; anywhere otherwise.
status runtime::create_arena() {
  for (unsigned n = 1; n < vm.nodes; ++n) {
    device_node& d = vm.device(n);
    if (!d.windowed() || (d.info.capabilities & device::may_share_addresses) == 0) continue;
    if (vm.memory.create(config_.arena_bytes, d.info.window_base) == status::ok &&
        addresses_are_shared(d, vm.memory) == status::ok)
      return status::ok;
    log_line(log_level::info, "node %u: pointers differ by a constant on the device: %s", n, last_error());
    vm.memory.destroy();
    break;
  }
  return vm.memory.create(config_.arena_bytes);
}

status runtime::open_backends() {
  status last = status::ok;
  for (const std::string& name : config_.backends) {
    loaded_backend backend;
    std::uint32_t count = 0;
    status s = device::load_backend(name.c_str(), &backend.api);
    if (s == status::ok) {
      s = device::check_device(*backend.api, backend.api->open(&config_.device, &backend.handle, &count),
                               "looking for devices");
    }
    if (s != status::ok) {
      if (!config_.automatic) return s;
      log_line(log_level::info, "%s", last_error());
      last = s;
      continue;
    }
    backends_.push_back(backend);
    for (std::uint32_t i = 0; i < count && vm.nodes <= max_devices; ++i)
      if (s = open_device(backend, i); s != status::ok) return s;
    if (config_.automatic && vm.nodes > 1) break;
  }
  if (vm.nodes > 1) return status::ok;
  if (last == status::ok) return fail(status::unsupported, "none of the backends asked for has a device here");
  return last;
}

status runtime::open_device(const loaded_backend& backend, std::uint32_t index) {
  auto device = std::make_unique<device_node>();
  device->node = vm.nodes;
  device->api = backend.api;
  device_node& d = *device;
  if (const status s =
          device::check_device(*d.api, d.api->device_open(backend.handle, index, &d.handle), "opening a device");
      s != status::ok)
    return s;
  vm.devices[d.node] = std::move(device);
  ++vm.nodes;
  if (const status s = device::check_device(*d.api, d.api->device_info_get(d.handle, &d.info), "asking a device");
      s != status::ok)
    return s;
  d.budget_bytes =
      config_.device_budget_bytes != 0 ? config_.device_budget_bytes : d.info.total_bytes - d.info.total_bytes / 10;
  d.budget_bytes = round_down(std::min(d.budget_bytes, d.info.total_bytes), frame_bytes);
  d.budget_bytes = std::max<std::uint64_t>(d.budget_bytes, frame_bytes);
  if (const status s = d.pool.create(static_cast<std::uint32_t>(d.budget_bytes / frame_bytes)); s != status::ok)
    return s;
  vm.stats.metadata_bytes.add(d.pool.metadata_bytes());
  for (device::stream** stream : {&d.to_device, &d.to_host, &d.to_map}) {
    if (stream == &d.to_map && !d.has_access_map()) continue;
    if (const status s = device::check_device(
            *d.api, d.api->stream_create(d.handle, device::stream_independent, stream), "making a stream");
        s != status::ok)
      return s;
  }
  log_line(log_level::info, "node %u: %s (%s), budget %llu MiB, %s", d.node, d.info.name, d.api->name,
           static_cast<unsigned long long>(d.budget_bytes >> 20), d.windowed() ? "with a window" : "without a window");
  return status::ok;
}

status runtime::demand_on(unsigned node, device_faults*& result) {
  device_node& d = vm.device(node);
  lock_guard guard(d.admission);
  std::unique_ptr<device_faults>& made = demand_[node];
  if (made == nullptr) {
    std::unique_ptr<device_faults> fresh(new (std::nothrow) device_faults(vm, moves, d, thrash));
    if (fresh == nullptr) return fail(status::no_memory, "no memory to serve kernels' faults");
    if (const status s = fresh->start(); s != status::ok) return s;
    made = std::move(fresh);
    vm.stats.metadata_bytes.add(made->map().metadata_bytes());
  }
  result = made.get();
  return status::ok;
}

status runtime::start_registrar() {
  std::vector<registrar::backend> all;
  for (const loaded_backend& backend : backends_) all.push_back({backend.api, backend.handle});
  return registrar.start(all, config_.registered_budget_bytes);
}

bool runtime::demand_at_rest() {
  for (unsigned n = 1; n < vm.nodes; ++n) {
    lock_guard guard(vm.device(n).admission);
    if (demand_[n] != nullptr && !demand_[n]->at_rest()) return false;
  }
  return true;
}

bool runtime::settle(std::uint64_t timeout_ns) {
  const std::uint64_t start = now_ns();
  for (;;) {
    bool open = false;
    vm.leases.for_each([&](const lease& l) { open = open || l.state == lease_state::open; });
    if (open) return false;
    if (scopes.load() == 0 && demand_at_rest() && vm.moves_in_flight.load() == 0 && vm.deferred_frees.load() == 0 &&
        vm.own_work.load() == 0)
      return true;
    if (now_ns() - start > timeout_ns) return false;
    // Frees may wait for nothing but a second try.
    if (scopes.load() == 0 && vm.moves_in_flight.load() == 0) retry_deferred_frees(vm);
    usleep(100);
  }
}

std::uint64_t runtime::metadata_bytes() const {
  const object_layer* small = objects.load();
  return vm.stats.metadata_bytes.get() + vm.extents.metadata_bytes() + vm.advices.intervals() * 96 +
         (small != nullptr ? small->metadata_bytes() : 0);
}

std::uint64_t runtime::allocations() const {
  const std::uint64_t all = vm.extents.live();
  const object_layer* small = objects.load();
  return small == nullptr ? all : all - std::min(all, small->chunks()) + small->live();
}

// Chunks count where there are objects in them.
std::uint64_t runtime::allocated_bytes() const {
  const std::uint64_t all = vm.extents.live_bytes();
  const object_layer* small = objects.load();
  return small == nullptr || small->live() != 0 ? all : all - std::min(all, small->chunk_bytes());
}

status start_runtime(const gm_options* given) {
  if (state.load() == life::forked) return not_live(life::forked);  // the lock may be held for ever in a child
  lock_guard guard(life_lock);
  if (instance.load() != nullptr)
    return fail(status::invalid_argument,
                "gmem runs already: call gm_init before any other function, or shut down first");
  std::unique_ptr<runtime> made(new (std::nothrow) runtime);
  if (made == nullptr) return fail(status::no_memory, "no memory to start gmem");
  status result = status::ok;
  try {
    result = made->start(given);
    if (result == status::ok) {
      serving.store(made.get(), std::memory_order_release);
      result = made->start_faults(on_bus_error);
    }
  } catch (const std::bad_alloc&) {
    result = fail(status::no_memory, "no memory to start gmem");
  }
  if (result != status::ok) {
    serving.store(nullptr, std::memory_order_release);
    return result;
  }
  static const int registered = pthread_atfork(nullptr, nullptr, forget_in_child);
  (void)registered;
  // Last: others use it from here on.
  instance.store(made.release(), std::memory_order_release);
  state.store(life::live);
  forget_error();  // of backends that were tried and are not here
  return status::ok;
}

status runtime::start_faults(signal_callback on_signal) {
  if (const status s = install_fault_signals(on_signal); s != status::ok) return s;
  signals_ = true;
  if (config_.fault_mode == fault_mode::in_line) return status::ok;
  handlers_ = std::make_unique<fault_handlers>(kernel_, faults, offenders, vm.memory);
  return handlers_->start(config_.fault_threads);
}

status stop_runtime() {
  if (state.load() == life::forked) return not_live(life::forked);
  lock_guard guard(life_lock);
  runtime* rt = instance.load();
  if (rt == nullptr) return state.load() == life::never ? status::ok : not_live(state.load());
  if (const std::uint64_t live = rt->allocations(); live != 0)
    return fail(status::busy, "%llu allocations live: free them before gm_shutdown",
                static_cast<unsigned long long>(live));
  if (rt->streams.load() != 0)
    return fail(status::busy, "%llu streams live: destroy them before gm_shutdown",
                static_cast<unsigned long long>(rt->streams.load()));
  // What is freed and ended already is not the program's any more, and is waited for.
  if (!rt->settle(~std::uint64_t{0})) return fail(status::busy, "scopes are open: end them before gm_shutdown");
  bool has_haunted_addresses = false;
  if (object_layer* objects = rt->objects.exchange(nullptr); objects != nullptr) {
    rt->has_no_objects.store(true);
    has_haunted_addresses = !objects->close();
    if (!has_haunted_addresses) delete objects;
    (void)rt->settle(~std::uint64_t{0});
  }
  instance.store(nullptr, std::memory_order_release);
  state.store(life::down);
  serving.store(nullptr, std::memory_order_release);
  const std::uintptr_t base = rt->vm.memory.user_base();
  const std::uint64_t bytes = rt->vm.memory.bytes();
  delete rt;
  if (has_haunted_addresses)
    (void)reserve_for_good(base, bytes);  // taken meanwhile: the next life has no objects there
  return status::ok;
}

status start_failure() { return why_not; }

bool in_forked_child() { return state.load() == life::forked; }

runtime* running() { return instance.load(std::memory_order_acquire); }

runtime* current() {
  if (runtime* rt = instance.load(std::memory_order_acquire); rt != nullptr) [[likely]]
    return rt;
  for (;;) {
    const life now = state.load();
    if (now == life::down || now == life::forked) {
      why_not = not_live(now);
      return nullptr;
    }
    if (runtime* rt = instance.load(std::memory_order_acquire); rt != nullptr && now == life::live) return rt;
    const status s = start_runtime(nullptr);
    if (s == status::ok || instance.load(std::memory_order_acquire) != nullptr) return running();
    why_not = s;
    return nullptr;
  }
}

}  // namespace gm
