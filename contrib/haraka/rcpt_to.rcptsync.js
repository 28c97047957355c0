'use strict'

// Takes mail for the recipients that rcptsync lists, and for nobody else in their domains.
//
// Copy this file to Haraka's plugins/ and name it in config/plugins. The table is config/recipients.json, written with
// template = "haraka"; Haraka reads it anew when it changes. While it is missing or empty every recipient is deferred, for
// nobody then knows who exists.

const own = Object.prototype.hasOwnProperty

exports.register = function () {
  this.load_recipients()
  this.register_hook('rcpt', 'check_recipient')
}

exports.load_recipients = function () {
  this.recipients = this.config.get('recipients.json', 'json', () => {
    this.load_recipients()
  })
  const domain = (address) => address.slice(address.lastIndexOf('@') + 1)
  this.domains = new Set(Object.keys(this.recipients).map(domain))
}

exports.check_recipient = function (next, connection, params) {
  const { user, host } = params[0]
  if (this.domains.size === 0) {
    return next(DENYSOFT, 'Recipients are not known at the moment')
  }
  if (!user || !host) return next()
  const domain = host.toLowerCase()
  if (!this.domains.has(domain)) return next()
  // The table has local parts without their quotes.
  const quoted = /^"(.*)"$/.exec(user)
  const local = quoted ? quoted[1].replace(/\\(.)/g, '$1') : user
  const is_listed = (address) => own.call(this.recipients, address)
  if (is_listed(`${local.toLowerCase()}@${domain}`) || is_listed(`@${domain}`)) {
    return next(OK)
  }
  next(DENY, 'User unknown')
}
