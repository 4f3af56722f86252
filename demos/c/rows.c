#include "rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool rows_open(rows *opened, const char *path, rows_format format, char *error, size_t error_size) {
    bool is_input = strcmp(path, "-") == 0;
    *opened = (rows){.format = format, .name = is_input ? "standard input" : path};
    opened->from = is_input ? stdin : fopen(path, format.binary ? "rb" : "r");
    if (opened->from != NULL) return true;
    snprintf(error, error_size, "%s: %s", path, strerror(errno));
    return false;
}

void rows_close(rows *opened) {
    if (opened->from != NULL && opened->from != stdin) fclose(opened->from);
    free(opened->line);
    *opened = (rows){.from = NULL};
}

static int refuse_value(const rows *from, size_t column, char *error, size_t size) {
    snprintf(
        error, size, "%s: row %zu, value %zu: expected a finite number%s", from->name, from->row_number, column + 1,
        from->format.missing ? " or a missing value" : ", got another; --missing takes empty cells and NaN as missing");
    return -1;
}

static int refuse_text(const rows *from, size_t column, char *error, size_t size) {
    bool may_be_names = from->line_number == 1 && !from->format.header;
    snprintf(error, size, "%s: line %zu, value %zu: expected a number, got another text%s", from->name,
             from->line_number, column + 1,
             may_be_names ? "; if this line holds the columns' names, say --header" : "");
    return -1;
}

static int check_values(const rows *from, const float *row, char *error, size_t size) {
    for (size_t column = 0; column < from->format.width; column++)
        if (isinf(row[column]) || (isnan(row[column]) && !from->format.missing))
            return refuse_value(from, column, error, size);
    return 1;
}

static int next_binary(rows *from, float *row, char *error, size_t size) {
    size_t bytes = from->format.width * sizeof *row, got = fread(row, 1, bytes, from->from);
    if (got == 0 && !ferror(from->from)) return 0;
    from->row_number++;
    if (got == bytes) return check_values(from, row, error, size);
    snprintf(error, size, "%s: row %zu: expected %zu bytes (%zu float32), got %zu", from->name, from->row_number, bytes,
             from->format.width, got);
    return -1;
}

static bool is_blank(const char *text) {
    return text[strspn(text, " \t\r\n")] == '\0';
}

/* A line's cells, in place; the line has no NUL but its last. */
static int read_cells(const rows *from, char *line, float *row, char *error, size_t size) {
    size_t column = 0;
    for (char *cell = line; cell != NULL; column++) {
        char *comma = strchr(cell, ','), *end;
        if (comma != NULL) *comma = '\0';
        if (column < from->format.width) {
            if (is_blank(cell))
                row[column] = NAN;
            else {
                row[column] = strtof(cell, &end);
                if (!is_blank(end)) return refuse_text(from, column, error, size);
            }
        }
        cell = comma == NULL ? NULL : comma + 1;
    }
    if (column == from->format.width) return check_values(from, row, error, size);
    snprintf(error, size, "%s: line %zu: expected %zu values with commas between them, got %zu", from->name,
             from->line_number, from->format.width, column);
    return -1;
}

static int next_text(rows *from, float *row, char *error, size_t size) {
    for (;;) {
        ssize_t length = getline(&from->line, &from->room, from->from);
        if (length < 0) break;
        from->line_number++;
        if (strlen(from->line) != (size_t)length) {
            snprintf(error, size, "%s: line %zu: expected text, got a zero byte; are these raw float32? say --binary",
                     from->name, from->line_number);
            return -1;
        }
        /* A blank line is a row only where one missing value may be all of it. */
        bool may_be_row = from->format.width == 1 && from->format.missing;
        if ((from->line_number == 1 && from->format.header) || (is_blank(from->line) && !may_be_row)) continue;
        from->row_number++;
        return read_cells(from, from->line, row, error, size);
    }
    if (feof(from->from)) return 0;
    snprintf(error, size, "%s: %s", from->name, strerror(errno));
    return -1;
}

int rows_next(rows *opened, float *row, char *error, size_t error_size) {
    int status = (opened->format.binary ? next_binary : next_text)(opened, row, error, error_size);
    if (status >= 0 && ferror(opened->from)) {
        snprintf(error, error_size, "%s: %s", opened->name, strerror(errno));
        return -1;
    }
    return status;
}
