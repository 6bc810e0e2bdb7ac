/* SPDX-License-Identifier: Apache-2.0
 * The smallest use of gmem from C11: a device adds one to numbers that the CPU wrote and reads. */
#include <gmem/gmem.h>
#include <stdio.h>

enum { count = 100000 };

static void add_one(void* numbers, size_t first, size_t last) {
  for (size_t i = first; i < last; ++i) ((int*)numbers)[i] += 1;
}

int main(void) {
  int* numbers = gm_malloc(count * sizeof *numbers);
  gm_stream stream = NULL;
  gm_scope scope = NULL;
  if (!numbers || gm_stream_create(1, &stream)) goto failed;
  for (int i = 0; i < count; ++i) numbers[i] = i;

  gm_access use = {numbers, count * sizeof *numbers, GM_READ_WRITE};
  if (gm_access_begin(stream, &use, 1, &scope)) goto failed;
  if (gm_stream_launch(stream, count, add_one, NULL, gm_device_pointer(numbers, 1))) goto failed;
  if (gm_access_end(scope) || gm_stream_synchronize(stream)) goto failed;

  for (int i = 0; i < count; ++i) {
    if (numbers[i] != i + 1) return printf("numbers[%d] is %d\n", i, numbers[i]), 1;
  }
  gm_free(numbers);
  if (gm_stream_destroy(stream) || gm_shutdown()) goto failed;
  return 0;

failed:
  fprintf(stderr, "%s\n", gm_last_error());
  return 1;
}
