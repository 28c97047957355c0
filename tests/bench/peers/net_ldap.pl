#!/usr/bin/perl
# The table as a script with Net::LDAP makes it: the paging control, a hash of addresses, a sorted text, postmap.
# usage: net_ldap.pl URI BASE FILTER TABLE DOMAIN...
use strict;
use warnings;
use Net::LDAP;
use Net::LDAP::Constant qw(LDAP_CONTROL_PAGED);
use Net::LDAP::Control::Paged;

my ($uri, $base, $filter, $table, @domains) = @ARGV;
my %listed = map { $_ => 1 } @domains;
my %addresses;

my $ldap = Net::LDAP->new($uri) or die "$uri: $@\n";
my $bound = $ldap->bind;
die $bound->error if $bound->code;
my $page = Net::LDAP::Control::Paged->new(size => 1000);
while (1) {
    my $found = $ldap->search(
        base    => $base,
        filter  => $filter,
        attrs   => [qw(proxyAddresses objectGUID msExchRecipientTypeDetails msExchRequireAuthToSendTo)],
        control => [$page],
    );
    die $found->error if $found->code;
    while (my $entry = $found->shift_entry) {
        next if ($entry->get_value('msExchRequireAuthToSendTo') // '') eq 'TRUE';
        for my $value ($entry->get_value('proxyAddresses')) {
            my $address = lc $value;
            next unless $address =~ s/^smtp://;
            my ($domain) = $address =~ /\@([^\@]*)\z/ or next;
            $addresses{$address} = 1 if $listed{$domain};
        }
    }
    my ($answer) = $found->control(LDAP_CONTROL_PAGED) or die "no paging control\n";
    my $cookie = $answer->cookie;
    last unless defined $cookie && length $cookie;
    $page->cookie($cookie);
}
$ldap->unbind;

open my $text, '>', $table or die "$table: $!\n";
print {$text} "$_ OK\n" for sort keys %addresses;
close $text or die "$table: $!\n";
system('postmap', "cdb:$table") == 0 or die "postmap failed\n";
