<#
.SYNOPSIS
    Writes the SMTP addresses of all recipients of Exchange Online into a list for rcptsync.

.DESCRIPTION
    One address a line, UTF-8 without a byte order mark, with a line end behind the last one: what a source of kind "list" reads.

        [source.cloud]
        kind = "list"
        path = "/var/lib/rcptsync/cloud-recipients.list"
        max_age = "48h"            # older: frozen, and its recipients stay

    The list is written to another name and moved, so a reader sees the old one or the new one. An error ends the script before
    that, so a list is never a part of itself; so does an answer without any address. Domains that are not listed in
    rcptsync's [domains] are left out there, and need not be sorted out here.

    Needs PowerShell 7, the module ExchangeOnlineManagement and a role that may read recipients (View-Only Recipients is
    enough). For a scheduled task, sign in with an application and its certificate. Bring the list to the gateway by
    whatever moves it whole: copy to another name there, then rename.

    NOT TRIED: this script was written from the documentation and has not been run against Exchange Online by its authors.
    Compare its first list with the number of recipients that the admin center shows.

.EXAMPLE
    ./export-cloud-recipients.ps1 -Path ./cloud-recipients.list -AppId 00000000-0000-0000-0000-000000000000 `
        -CertificateThumbprint 0000000000000000000000000000000000000000 -Organization corp.onmicrosoft.com
#>
param(
    [Parameter(Mandatory)] [string] $Path,
    [string] $AppId,
    [string] $CertificateThumbprint,
    [string] $Organization
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

if ($AppId) {
    Connect-ExchangeOnline -ShowBanner:$false -AppId $AppId -CertificateThumbprint $CertificateThumbprint -Organization $Organization
} else {
    Connect-ExchangeOnline -ShowBanner:$false
}
try {
    # EmailAddresses holds every type; the prefix is compared without case (SMTP: is the primary address, smtp: another).
    $addresses = Get-EXORecipient -ResultSize Unlimited -Properties EmailAddresses |
        ForEach-Object { $_.EmailAddresses } |
        Where-Object { $_ -like 'smtp:*' } |
        ForEach-Object { $_.Substring(5) } |
        Sort-Object -Unique
} finally {
    Disconnect-ExchangeOnline -Confirm:$false
}
if (-not $addresses) {
    throw 'Exchange Online gave no address; the list stays as it is'
}

# .NET does not know PowerShell's own working directory.
$target = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Path)
$temporary = "$target.new"
$text = ($addresses -join "`n") + "`n"
[System.IO.File]::WriteAllText($temporary, $text, [System.Text.UTF8Encoding]::new($false))
Move-Item -LiteralPath $temporary -Destination $target -Force
Write-Output "$(@($addresses).Count) addresses in $target"
