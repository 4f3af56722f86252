/* The command line: rows in, one line of numbers a row out. */
#include "benchmark.h"
#include "moe.h"
#include "rows.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { FAILED = 1, MISUSED = 2, MOST_OUTPUTS = 8, MOST_CALLS = 10000000 };
enum { LIBRARY = 256, ROUTED, TOP_K, MASS, MIXING, OUTPUT, BINARY, MISSING, HEADER, UNCHECKED, BENCHMARK };

typedef struct {
    const char *model, *input, *outputs[MOST_OUTPUTS];
    size_t num_outputs, calls;
    bool routed;
    moe_settings settings;
    moe_choice choice;
    rows_format format;
} command;

static const struct option OPTIONS[] = {
    {"library", required_argument, NULL, LIBRARY},
    {"routed", no_argument, NULL, ROUTED},
    {"top-k", required_argument, NULL, TOP_K},
    {"mass", required_argument, NULL, MASS},
    {"mixing", required_argument, NULL, MIXING},
    {"output", required_argument, NULL, OUTPUT},
    {"binary", no_argument, NULL, BINARY},
    {"missing", no_argument, NULL, MISSING},
    {"header", no_argument, NULL, HEADER},
    {"unchecked", no_argument, NULL, UNCHECKED},
    {"benchmark", required_argument, NULL, BENCHMARK},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const char USAGE[] =
    "usage: moe [options] MODEL.tflite [ROWS|-]\n"
    "Answers each row of ROWS (standard input by default): numbers with commas between them, one row a line.\n"
    "\n"
    "  --library FILE    libLiteRt.so of the ai-edge-litert wheel; else $MOE_LITERT, else the loader's\n"
    "  --routed          run the gate, then only experts with a weight above 0\n"
    "  --top-k N         at most so many experts; means --routed\n"
    "  --mass SHARE      the heaviest until they hold this much of the gate's weight, in (0, 1]; means --routed\n"
    "  --mixing WHO      who weighs, routed: `file`, its own combine (default), or `few`, this program, only what ran\n"
    "  --output NAME     print this output; may be repeated; by default prediction and routing_weights\n"
    "  --header          the first line holds names\n"
    "  --missing         empty cells and NaN are missing values; for models that fill them\n"
    "  --binary          rows are raw float32\n"
    "  --benchmark N     time N answers to the first row, whole graph and routed by turns\n"
    "  --unchecked       don't compare digests, where OpenSSL's libcrypto is absent\n"
    "Exit code 1: the model or a row can't be answered; 2: the command is wrong.\n";

static int misused(const char *what, const char *got) {
    fprintf(stderr, "moe: expected %s, got '%s'; see moe --help\n", what, got);
    return MISUSED;
}

/* 0 if the text isn't one from 1 to `most`. */
static size_t whole_number(const char *text, long most) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    return *end != '\0' || end == text || errno != 0 || value < 1 || value > most ? 0 : (size_t)value;
}

static int read_command(int argc, char **argv, command *asked) {
    char *end;
    for (int option; (option = getopt_long(argc, argv, "h", OPTIONS, NULL)) != -1;) {
        switch (option) {
            case LIBRARY: asked->settings.library = optarg; break;
            case ROUTED: asked->routed = true; break;
            case TOP_K:
                asked->choice.top_k = whole_number(optarg, LONG_MAX), asked->routed = true;
                if (asked->choice.top_k == 0) return misused("--top-k of at least 1", optarg);
                break;
            case MASS:
                asked->choice.mass = strtod(optarg, &end), asked->routed = true;
                if (*end != '\0' || end == optarg || !(asked->choice.mass > 0 && asked->choice.mass <= 1))
                    return misused("--mass in (0, 1]", optarg);
                break;
            case MIXING:
                if (strcmp(optarg, "few") != 0 && strcmp(optarg, "file") != 0)
                    return misused("--mixing file or few", optarg);
                asked->settings.mixing = strcmp(optarg, "few") == 0 ? MOE_MIX_FEW : MOE_MIX_FILE;
                break;
            case OUTPUT:
                if (asked->num_outputs == MOST_OUTPUTS) return misused("at most 8 outputs", optarg);
                asked->outputs[asked->num_outputs++] = optarg;
                break;
            case BINARY: asked->format.binary = true; break;
            case MISSING: asked->format.missing = true; break;
            case HEADER: asked->format.header = true; break;
            case UNCHECKED: asked->settings.skip_digests = true; break;
            case BENCHMARK:
                asked->calls = whole_number(optarg, MOST_CALLS);
                if (asked->calls == 0) return misused("--benchmark in [1, 10000000]", optarg);
                break;
            case 'h': fputs(USAGE, stdout); exit(fflush(stdout) == 0 ? EXIT_SUCCESS : FAILED);
            default: return MISUSED; /* getopt has said why */
        }
    }
    if (argc - optind < 1 || argc - optind > 2)
        return misused("MODEL.tflite and perhaps ROWS", optind < argc ? argv[optind] : "");
    asked->model = argv[optind];
    asked->input = argc - optind == 2 ? argv[optind + 1] : "-";
    if (asked->num_outputs == 0)
        asked->outputs[0] = "prediction", asked->outputs[1] = "routing_weights", asked->num_outputs = 2;
    if (asked->settings.library == NULL) asked->settings.library = getenv("MOE_LITERT");
    return 0;
}

static int answer(moe *mixture, const command *asked, const float *row) {
    return asked->routed ? moe_route(mixture, row, asked->choice) : moe_predict(mixture, row);
}

/* Prints what was answered last: nine digits give a float32 back bit for bit. Before the first line, the names. */
static bool print_answer(const moe *mixture, const command *asked, bool names, char *error) {
    const char *between = "";
    for (size_t index = 0; index < asked->num_outputs; index++) {
        size_t count;
        const float *values = moe_output(mixture, asked->outputs[index], &count);
        if (values == NULL) {
            snprintf(error, MOE_ERROR_SIZE, "%s: expected an output of the model, got '%s'", asked->model,
                     asked->outputs[index]);
            return false;
        }
        for (size_t value = 0; value < count; value++, between = ",") {
            if (names)
                printf("%s%s_%zu", between, asked->outputs[index], value);
            else
                printf("%s%.9g", between, (double)values[value]);
        }
    }
    if (putchar('\n') != EOF) return true;
    snprintf(error, MOE_ERROR_SIZE, "standard output: %s", strerror(errno));
    return false;
}

/* False: see `error`. */
static bool run(moe *mixture, const command *asked, rows *from, float *row, char *error) {
    int status = rows_next(from, row, error, MOE_ERROR_SIZE);
    if (status == 0) snprintf(error, MOE_ERROR_SIZE, "%s: expected rows, got none", from->name);
    if (status <= 0) return false;
    if (asked->calls > 0) {
        if (benchmark(mixture, row, asked->choice, asked->calls) == 0) return true;
        snprintf(error, MOE_ERROR_SIZE, "%s", moe_error(mixture));
        return false;
    }
    for (bool first = true; status > 0; first = false) {
        if (answer(mixture, asked, row) != 0) {
            snprintf(error, MOE_ERROR_SIZE, "%s: row %zu: %s", from->name, from->row_number, moe_error(mixture));
            return false;
        }
        if (first && !print_answer(mixture, asked, true, error)) return false;
        if (!print_answer(mixture, asked, false, error)) return false;
        status = rows_next(from, row, error, MOE_ERROR_SIZE);
    }
    return status == 0;
}

int main(int argc, char **argv) {
    command asked = {.model = NULL};
    int status = read_command(argc, argv, &asked);
    if (status != 0) return status;
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of printf, with a message */
    char error[MOE_ERROR_SIZE] = "";
    moe *mixture = moe_open(asked.model, &asked.settings, error);
    bool done = mixture != NULL;
    rows from = {.from = NULL};
    float *row = NULL;
    if (done) {
        moe_shape shape = moe_describe(mixture);
        asked.format.width = shape.num_features;
        row = malloc(shape.num_features * sizeof *row);
        if (asked.routed && shape.not_routed != NULL)
            done = false, snprintf(error, sizeof error, "%s: %s", asked.model, shape.not_routed);
        if (row == NULL) done = false, snprintf(error, sizeof error, "out of memory");
    }
    done = done && rows_open(&from, asked.input, asked.format, error, sizeof error) &&
           run(mixture, &asked, &from, row, error);
    if (fflush(stdout) != 0 && done)
        done = false, snprintf(error, sizeof error, "standard output: %s", strerror(errno));
    rows_close(&from);
    free(row);
    moe_close(mixture);
    if (!done) fprintf(stderr, "moe: %s\n", error);
    return done ? EXIT_SUCCESS : FAILED;
}
