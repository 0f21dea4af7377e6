# The C library, without Python: `make`, `make check`, `make examples` (into BUILD), `make install PREFIX=/usr/local DESTDIR=`.
# LIBDIR and INCLUDEDIR are below PREFIX. CC=aarch64-linux-gnu-gcc builds for another machine.

PREFIX ?= /usr/local
LIBDIR ?= lib
INCLUDEDIR ?= include
BUILD ?= build/$(shell $(CC) -dumpmachine)

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' gated_c/__init__.py)
ABI := $(shell sed -n 's/^.define GATED_ABI_VERSION //p' gated_c/include/gated_c.h)
SONAME := libgated_c.so.$(ABI)

# A row of src/isa.flags, and the kernel tables for the compiler's machine.
flags = $(shell sed -n 's/^$(1) //p' src/isa.flags)
TABLES := $(shell $(CC) -E -P -x c src/isa.def | sed -n 's/^ISA.\([a-z0-9_]*\).*/\1/p')

OBJECTS := $(patsubst src/%.c,$(BUILD)/%.o,$(wildcard src/*.c)) $(TABLES:%=$(BUILD)/isa/%.o)
COMPILE = $(CC) $(CPPFLAGS) $(CFLAGS) $(call flags,compile) -Igated_c/include -MMD -c $< -o $@

all: $(BUILD)/libgated_c.a $(BUILD)/libgated_c.so

$(BUILD)/libgated_c.a: $(OBJECTS)
	rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/libgated_c.so: $(BUILD)/$(SONAME)
	ln -sf $(SONAME) $@

$(BUILD)/$(SONAME): $(OBJECTS)
	$(CC) $(CFLAGS) $(LDFLAGS) $(call flags,link) -Wl,-z,defs -Wl,-soname,$(SONAME) $^ -o $@

$(BUILD)/isa/%.o: src/isa/%.c src/isa.flags
	@mkdir -p $(@D)
	$(COMPILE) $(call flags,$*)

$(BUILD)/%.o: src/%.c src/isa.flags
	@mkdir -p $(@D)
	$(COMPILE)

-include $(OBJECTS:.o=.d)

# One program with either library.
check: all
	$(CC) $(CFLAGS) -Igated_c/include tests/c/embed.c $(BUILD)/libgated_c.a -o $(BUILD)/embed-static
	$(CC) $(CFLAGS) -Igated_c/include tests/c/embed.c -L$(BUILD) -lgated_c -Wl,-rpath,$(abspath $(BUILD)) -o $(BUILD)/embed-shared
	$(BUILD)/embed-static
	$(BUILD)/embed-shared

examples: $(BUILD)/denoise $(BUILD)/two_threads

LINK_EXAMPLE = -Wall -Wextra -pedantic -Igated_c/include $(filter-out %.h,$^) $(LDFLAGS)

$(BUILD)/denoise: examples/c/denoise.c examples/c/wav.c examples/c/wav.h $(BUILD)/libgated_c.a
	$(CC) $(CFLAGS) -std=c11 $(LINK_EXAMPLE) -lm -o $@

$(BUILD)/two_threads: examples/c/two_threads.cpp $(BUILD)/libgated_c.a
	$(CXX) $(CXXFLAGS) -std=c++17 -pthread $(LINK_EXAMPLE) -o $@

UP = $(shell echo $(LIBDIR) | sed 's|[^/]*|..|g')
FILL = sed -e 's|@UP@|$(UP)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	-e 's|@SONAME@|$(SONAME)|' -e 's|@VERSION@|$(VERSION)|'
ROOT = $(DESTDIR)$(PREFIX)

install: all
	mkdir -p $(ROOT)/$(INCLUDEDIR) $(ROOT)/$(LIBDIR)/pkgconfig $(ROOT)/$(LIBDIR)/cmake/gated_c
	install -m 644 gated_c/include/gated_c.h $(ROOT)/$(INCLUDEDIR)
	install -m 644 $(BUILD)/libgated_c.a $(ROOT)/$(LIBDIR)
	install -m 755 $(BUILD)/$(SONAME) $(ROOT)/$(LIBDIR)
	ln -sf $(SONAME) $(ROOT)/$(LIBDIR)/libgated_c.so
	$(FILL) src/install/gated_c.pc.in > $(ROOT)/$(LIBDIR)/pkgconfig/gated_c.pc
	$(FILL) src/install/gated_c-config.cmake.in > $(ROOT)/$(LIBDIR)/cmake/gated_c/gated_c-config.cmake
	$(FILL) src/install/gated_c-config-version.cmake.in > $(ROOT)/$(LIBDIR)/cmake/gated_c/gated_c-config-version.cmake

clean:
	rm -rf $(BUILD)

.PHONY: all check examples install clean
