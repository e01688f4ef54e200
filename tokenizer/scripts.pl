#!/usr/bin/perl
# scripts.pl - writes tokenizer/scripts.h: which script each character of Unicode belongs to, as this perl's Unicode has it.
#     perl tokenizer/scripts.pl > tokenizer/scripts.h
use strict;
use warnings;
use Unicode::UCD qw(prop_invmap);

my ($first, $of) = prop_invmap('Script');
my %seen;
$seen{lc $_} = 1 for @$of;
my @always = ('common', 'inherited', 'unknown');
delete $seen{$_} for @always;
my @name = (@always, sort keys %seen);
my %number = map { $name[$_] => $_ } 0 .. $#name;
my (@entry, $last);
for my $i (0 .. $#$first) {
    my $script = $number{lc $of->[$i]};
    next if defined $last && $last == $script;
    push @entry, sprintf('0x%08x', $first->[$i] << 8 | $script);
    $last = $script;
}
my $version = Unicode::UCD::UnicodeVersion();
my $count = @entry;

sub lines {            # words in lines of at most 126 columns
    my @out;
    my $line = '';
    for my $word (@_) {
        if (length($line) + length($word) > 120) { push @out, $line; $line = ''; }
        $line .= ($line eq '' ? '    ' : ' ') . $word;
    }
    return join("\n", @out, $line);
}

print <<"END";
/* scripts.h - which script each character belongs to: the property Script of Unicode $version, written by tokenizer/scripts.pl.
   For the converter; no part of kalm_rerank.h. */
#ifndef KALM__SCRIPTS_H
#define KALM__SCRIPTS_H

#include "../src/base.h"

enum { KALM__SCRIPT_COMMON, KALM__SCRIPT_INHERITED, KALM__SCRIPT_UNKNOWN, KALM__SCRIPTS = ${\ scalar @name} };

/* Their names, by number: those of Unicode in lower case. */
static const char *const kalm__script_names[KALM__SCRIPTS] = {
${\ lines(map { qq("$_") . ($_ eq $name[-1] ? '' : ',') } @name)}
};

enum { KALM__SCRIPT_RANGES = $count };

/* Where each range of one script begins, in order of the characters: code point << 8 | script. */
static const uint32_t kalm__script_ranges[KALM__SCRIPT_RANGES] = {
${\ lines(map { $entry[$_] . ($_ == $#entry ? '' : ',') } 0 .. $#entry)}
};

/* The script of a character, for a walk through all of them: `code` may not fall from call to call, and *range begins at 0. */
KALM__FN uint32_t kalm__script_next(size_t *range, uint32_t code)
{
    while (*range + 1 < KALM__SCRIPT_RANGES && kalm__script_ranges[*range + 1] >> 8 <= code) ++*range;
    return kalm__script_ranges[*range] & 255;
}

#endif
END
