// SPDX-License-Identifier: Apache-2.0
#include "device/backend_loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace gm::device {
namespace {

// "" when the system does not say where our code came from.
void own_folder(char (&folder)[PATH_MAX]) {
  folder[0] = '\0';
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return;
  char real[PATH_MAX];
  // The name of a program linked statically with us is argv[0], perhaps without a folder: ask the kernel then.
  if (std::strchr(info.dli_fname, '/') == nullptr || realpath(info.dli_fname, real) == nullptr) {
    const ssize_t length = readlink("/proc/self/exe", real, sizeof real - 1);
    if (length <= 0) return;
    real[length] = '\0';
  }
  char* slash = std::strrchr(real, '/');
  if (slash == nullptr) return;
  *slash = '\0';
  std::memcpy(folder, real, sizeof real);
}

}  // namespace

void* symbol_beside(const char* name, const char* symbol) {
  char folder[PATH_MAX];
  own_folder(folder);
  char path[PATH_MAX + 64];
  std::snprintf(path, sizeof path, "%s/libgmem-%s.so", folder, name);
  void* object = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  void* found = object != nullptr ? dlsym(object, symbol) : nullptr;
  if (found == nullptr) (void)fail(status::unsupported, "%s", dlerror());
  return found;
}

status load_backend(const char* name, const backend_table** table) {
  char folder[PATH_MAX];
  own_folder(folder);
  char path[PATH_MAX + 64];
  std::snprintf(path, sizeof path, "%s/libgmem-%s.so", folder, name);
  if (access(path, R_OK) != 0)
    return fail(status::unsupported, "there is no %s backend: %s is not installed", name, path);
  void* object = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (object == nullptr) return fail(status::unsupported, "the %s backend does not load: %s", name, dlerror());
  const auto entry = reinterpret_cast<backend_entry>(dlsym(object, backend_entry_name));
  const backend_table* found = entry != nullptr ? entry() : nullptr;
  if (found == nullptr || found->abi != backend_abi)
    return fail(status::unsupported, "%s is no backend of this version of gmem: install both from one build", path);
  *table = found;
  return status::ok;
}

status check_device(const backend_table& api, gm_status result, const char* what) {
  if (result == GM_OK) return status::ok;
  const char* words = api.error_text();
  return fail(static_cast<status>(result), "%s: %s: %s", api.name, what, words != nullptr ? words : "no reason given");
}

}  // namespace gm::device
