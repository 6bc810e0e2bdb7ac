// SPDX-License-Identifier: Apache-2.0
// registrar.h - which host memory the copy engines may use directly. A driver takes other memory through buffers of
// its own, at a third of the link's speed; registering locks memory and costs a call of some 0.2 ms a block.
//
//            copied often enough                    retire_locked()
//     none ----------------------> registering ---> registered ------> unregistering ---> none
//      ^  policy/registration.h         |
//      +--------------------------------+ refused, or stopped by the budget: one warning, and copies go the slow way
//
// A block's host memory is registered whole, when all of its pages exist and are somebody's. In every state but none
// they stay: drop_host_pages_locked() is not for such a block. Who wants the memory back calls retire_locked(). That
// succeeds when no copy of the block is in flight; from then on none uses the registration, and some time later the
// memory is loose. Until then the state counts as work of the runtime's own (vm_object::own_work), which ends whatever
// the program does; its end is told as that of a copy is, so whoever met the block in a passing state looks again.
//
// Calls of a driver take long: one thread makes them all, with no lock held, and nobody waits for that thread under a
// lock or in a fault. Drivers whose calls wait for work of the device are not asked (device/gpu/registering_probe.h).
// Locking: a block's state is guarded by its lock; the lists by rank registrar. Threads: any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "base/mutex.h"
#include "base/status.h"
#include "device/backend.h"
#include "platform/thread.h"
#include "vm/vm_object.h"

namespace gm {

class registrar {
 public:
  struct backend {
    const device::backend_table* api;
    device::backend* handle;
  };

  explicit registrar(vm_object& vm) : vm_(vm) {}
  registrar(const registrar&) = delete;
  registrar& operator=(const registrar&) = delete;
  ~registrar() { stop(); }

  // With the vm's devices open. budget: bytes; below a block nothing is registered, and there is no thread. Nor is
  // there one where no backend knows registering.
  status start(const std::vector<backend>&, std::uint64_t budget_bytes);
  // Unregisters what was retired. Nothing else is registered by then, or its backends close next.
  void stop();

  std::uint64_t registered_bytes() const { return registered_.load() * block_bytes; }
  // Something is on its way to being loose.
  bool is_unregistering() const { return retired_count_.load() != 0; }

  // Under the block's lock: so many pages were copied from or to its host memory.
  void copied_locked(block_index, block&, unsigned pages);
  // Under the block's lock. False: it is not registered, or a copy is in flight.
  bool retire_locked(block_index, block&);
  // A free whose memory was registered and is retired: carried out when it is loose. Counts as own_work meanwhile.
  void free_later(extent&);

 private:
  bool registers(const device::backend_table&) const;
  void work();
  bool take_retired(block_index&);
  bool work_off_frees();
  bool take_offered(block_index&);
  void register_block(block_index);
  void unregister_block(block_index);
  bool charge();
  bool call_backends(block_index);
  void refuse(const char* why);

  vm_object& vm_;
  std::vector<backend> backends_;  // those that know registering
  std::uint64_t budget_ = 0;       // blocks
  std::atomic<std::uint64_t> registered_{0};
  // So many blocks more are not offered, unless something is unregistered first: by then what others have locked may be
  // less.
  static constexpr std::uint32_t offers_passed_over = 256;
  std::atomic<std::uint32_t> pass_over_{0};
  bool warned_ = false;  // the thread's own

  mutex<lock_rank::registrar> lock_;
  std::array<block_index, 256> offered_{};  // a ring: what does not fit is offered again when it has been copied again
  std::size_t offered_first_ = 0;
  std::size_t offered_count_ = 0;
  std::vector<block_index> retired_;  // has room for all that are registered, so that retiring allocates nothing
  std::size_t retired_first_ = 0;
  std::atomic<std::uint32_t> retired_count_{0};
  extent_queue frees_;  // in the order in which their memory becomes loose
  event wanted_;
  std::atomic<bool> stopping_{false};
  thread thread_;
};

// Under the block's lock: whether its host pages may be given back now. If not, they are on their way to being so where
// that can be.
bool host_memory_is_loose_locked(const vm_object&, block_index, block&);

}  // namespace gm
