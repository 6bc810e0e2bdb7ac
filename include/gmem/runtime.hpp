// SPDX-License-Identifier: Apache-2.0
//
// runtime.hpp - the runtime's life, its nodes, and looking in. Part of gmem.hpp.
//
// Thin forms of the C functions: results are returned, a status other than GM_OK is thrown as gm::error.
// Threads: any, at any time, except init and shutdown, which must not run beside other calls.
#ifndef GMEM_RUNTIME_HPP
#define GMEM_RUNTIME_HPP

#include <gmem/gmem.h>
#include <gmem/error.hpp>
#include <gmem/extent.hpp>
#include <gmem/stream.hpp>

#include <cstddef>
#include <string>
#include <utility>

namespace gm {
inline namespace v0 {

// Every option at its default, for changing some: auto options = gm::default_options(); options.sim_devices = 2;
[[nodiscard]] inline gm_options default_options() noexcept {
  gm_options options{};
  options.size = sizeof options;
  return options;
}

// Starts the runtime with options of its own. Not needed otherwise: the first call starts it from the environment,
// which also wins over these. Throws gm::error: INVALID_ARGUMENT (a bad option; already started), PERMISSION,
// NO_MEMORY, DEVICE, SYSTEM.
inline void init(const gm_options& options) { check(gm_init(&options)); }

// Stops it. Throws gm::error, BUSY, while allocations, streams or scopes live; nothing has changed then.
inline void shutdown() { check(gm_shutdown()); }

// 1 + the number of devices, so that devices are 1 .. node_count() - 1. Throws gm::error when the runtime cannot start.
[[nodiscard]] inline int node_count() {
  const int count = gm_node_count();
  if (count <= 0) throw error(GM_ERROR_SYSTEM, std::string("the runtime did not start: ") + gm_last_error());
  return count;
}

// Throws gm::error, INVALID_ARGUMENT, when there is no such node.
[[nodiscard]] inline gm_node_info node_info(int node) {
  gm_node_info info;
  check(gm_node_info_get(node, &info));
  return info;
}

// The address by which a kernel on that node uses the pointer; nullptr stays nullptr. With a window it is always the
// same; without one it is good within a scope over that memory, and asking outside one throws.
// Throws gm::error: NOT_MANAGED, INVALID_ARGUMENT (no such node), UNSUPPORTED (no window, and no scope is open).
template <class T>
[[nodiscard]] T* device_pointer(T* pointer, int node) {
  if (pointer == nullptr) return nullptr;
  if (void* address = gm_device_pointer(pointer, node); address != nullptr) return static_cast<T*>(address);
  gm_mapping mapping;
  check(gm_query(pointer, &mapping));
  gm_node_info info;
  check(gm_node_info_get(node, &info));
  throw error(GM_ERROR_UNSUPPORTED, "node " + std::to_string(node) + " (" + info.name +
                                        ") has no window: ask for a device pointer within a scope over that memory");
}

template <class T>
[[nodiscard]] T* device_pointer(T* pointer, const stream& stream) {
  return device_pointer(pointer, stream.node());
}

// The page that holds the address: where it is valid, who may write. Throws gm::error: NOT_MANAGED.
[[nodiscard]] inline gm_mapping query(const void* pointer) {
  gm_mapping mapping;
  check(gm_query(pointer, &mapping));
  return mapping;
}

// Bytes of the range that have a current copy on the node. Throws gm::error: INVALID_ARGUMENT, NOT_MANAGED.
template <class T>
[[nodiscard]] std::size_t residency(const T* pointer, std::size_t count, int node) {
  std::size_t resident_bytes = 0;
  if (count != 0) check(gm_residency(pointer, detail::bytes_of<T>(count), node, &resident_bytes));
  return resident_bytes;
}

template <detail::extent X>
[[nodiscard]] std::size_t residency(X&& x, int node) {
  const auto elements = detail::elements(std::forward<X>(x));
  return residency(elements.data(), elements.size(), node);
}

// Counters since the start or the last reset_stats().
[[nodiscard]] inline gm_stats stats() {
  gm_stats stats{};
  stats.size = sizeof stats;
  check(gm_stats_get(&stats));
  return stats;
}

inline void reset_stats() { check(gm_stats_reset()); }

}  // namespace v0
}  // namespace gm

#endif  // GMEM_RUNTIME_HPP
