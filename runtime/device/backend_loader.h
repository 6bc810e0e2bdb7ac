// SPDX-License-Identifier: Apache-2.0
// backend_loader.h - finds backends by name and loads them: libgmem-<name>.so in the folder of the object that this
// code is part of, nowhere else.
#pragma once

#include "base/status.h"
#include "device/backend.h"

namespace gm::device {

inline constexpr const char* known_backends[] = {"cuda", "hip", "sim"};

// unsupported: there is no such file, or no such device here. A loaded object stays loaded until the process ends.
status load_backend(const char* name, const backend_table** table);

// A function of libgmem-<name>.so. Null with the error set.
void* symbol_beside(const char* name, const char* symbol);

// The status of a device call, with the device API's own words in the message.
status check_device(const backend_table& api, gm_status result, const char* what);

}  // namespace gm::device
