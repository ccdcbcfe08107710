/* Both sanitizers have a function that names the file of the reports, and where both are loaded UndefinedBehaviorSanitizer
   calls the other's: this calls its own. */
#include <dlfcn.h>
#include <stdlib.h>

__attribute__((constructor)) static void name_the_file_of_reports(void)
{
    void *name = dlsym(dlopen("libubsan.so.1", RTLD_LAZY), "__sanitizer_set_report_path");
    ((void (*)(const char *))name)(getenv("UBSAN_REPORTS"));
}
