"""The sweep: many recipes tried on the validation images, by a study that several processes and machines can share."""
