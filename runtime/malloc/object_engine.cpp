// SPDX-License-Identifier: Apache-2.0
#include "malloc/object_engine.h"

#include "base/status.h"
#include "device/backend_loader.h"

// Linked in with us, or with the program.
extern "C" [[gnu::weak, gnu::visibility("default")]] const gm::object_engine* gm_object_engine();

namespace gm {

const object_engine* find_object_engine() {
  if (&gm_object_engine != nullptr) return gm_object_engine();
  const auto entry = reinterpret_cast<object_engine_entry>(device::symbol_beside("jemalloc", "gm_object_engine"));
  return entry == nullptr ? nullptr : entry();
}

}  // namespace gm
