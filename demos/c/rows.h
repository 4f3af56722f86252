/* Rows of float32 from a file or standard input: lines of numbers with commas between them, or the raw bytes. */
#ifndef MOE_ROWS_H
#define MOE_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct {
    size_t width; /* values of a row */
    bool binary;  /* float32 in the processor's byte order, without anything between them */
    bool missing; /* NaN, and in text an empty cell, stands for a missing value */
    bool header;  /* the first line holds names */
} rows_format;

typedef struct {
    rows_format format;
    const char *name;
    FILE *from;
    char *line;
    size_t room, line_number, row_number;
} rows;

/* path: a file, or "-" for standard input. False: see `error`. */
bool rows_open(rows *opened, const char *path, rows_format format, char *error, size_t error_size);

/* Read one row of `width` values. 1: read; 0: there are no more; -1: see `error`. */
int rows_next(rows *opened, float *row, char *error, size_t error_size);

void rows_close(rows *opened);

#endif
