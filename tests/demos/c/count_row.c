/* On the board, under QEMU's plugin: mark the start and the end of each call;
 * first of empty ones, then of one row. */
#include "moe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CALLS = 40, MARK = 9999 };

int main(int argc, char **argv) {
  if (argc != 5)
    return 2;
  char error[MOE_ERROR_SIZE];
  moe_settings settings = {
      .library = argv[1],
      .mixing = strcmp(argv[3], "few") == 0 ? MOE_MIX_FEW : MOE_MIX_FILE};
  int dense = strcmp(argv[3], "dense") == 0, status = 0;
  moe *mixture = moe_open(argv[2], &settings, error);
  if (mixture == NULL)
    return fprintf(stderr, "%s\n", error), 1;
  moe_shape shape = moe_describe(mixture);
  if (settings.mixing != shape.mixing && !dense)
    return fprintf(stderr, "mixes otherwise than asked\n"), 1;
  moe_choice choice = {.top_k = (size_t)atoi(argv[4])};
  float *row = malloc(shape.num_features * sizeof *row);
  if (row == NULL)
    return 1;
  for (size_t index = 0; index < shape.num_features; index++)
    row[index] = (float)(index * 7 % 13) / 13 - 0.5f;
  for (int call = 0; call < CALLS; call++) {
    syscall(MARK, 2 * call);
    syscall(MARK, 2 * call + 1);
  }
  for (int call = 0; call < CALLS && status == 0; call++) {
    syscall(MARK, 2 * call);
    status =
        dense ? moe_predict(mixture, row) : moe_route(mixture, row, choice);
    syscall(MARK, 2 * call + 1);
  }
  if (status != 0)
    fprintf(stderr, "%s\n", moe_error(mixture));
  free(row);
  moe_close(mixture);
  return status == 0 ? 0 : 1;
}
