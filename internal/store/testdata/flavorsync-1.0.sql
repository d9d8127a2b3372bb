-- A database of flavor-sync 1.0, as mysqldump writes it: its three tables, and
-- rows as they were found and as they should not be.

CREATE TABLE `infrastructure` (
  `name` varchar(100) NOT NULL,
  `keystone_url` varchar(250) DEFAULT NULL,
  `username` varchar(100) DEFAULT NULL,
  `password` varchar(100) DEFAULT NULL,
  `tenant` varchar(100) DEFAULT NULL,
  PRIMARY KEY (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

INSERT INTO `infrastructure` VALUES
  ('Lannion2','http://lannion2.example.org:5000/v2.0','admin','p\'ass\\wörd','admin'),
  ('No Blanks','http://blank.example.org:5000/v2.0','admin','hunter2','admin'),
  ('Spain2','http://spain2.example.org:5000/v3','flavorsync','hunter2','admin'),
  ('Torino',NULL,NULL,NULL,NULL),
  ('Trento','http://trento.example.org:5000/v3','flavorsync','hunter2','admin'),
  ('ZURICH','https://zurich.example.org','flavorsync','','admin');

CREATE TABLE `flavor` (
  `id` varchar(100) NOT NULL,
  `name` varchar(100) DEFAULT NULL,
  `vcpus` int(11) DEFAULT NULL,
  `ram` int(11) DEFAULT NULL,
  `disk` int(11) DEFAULT NULL,
  `swap` int(11) DEFAULT NULL,
  `public` tinyint(1) DEFAULT NULL,
  `promoted` tinyint(1) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

INSERT INTO `flavor` VALUES
  ('1','m1.tiny',1,512,1,NULL,1,0),
  ('2','m1.small',1,2048,20,0,0,1),
  ('3','m1.private',2,4096,40,0,0,0),
  ('4','m1.forgotten',2,4096,40,0,NULL,NULL),
  ('567b200e-0aca-49e0-8e9a-8c1f6ad3abe2','insane',640,1232896,1262485504,0,1,0),
  ('6e1a7f0c-6c2b-4e53-9d8f-1f0b2c3d4e5f','twin',2,2048,20,0,1,0),
  ('7e1a7f0c-6c2b-4e53-9d8f-1f0b2c3d4e5f','twin',4,8192,20,0,1,1),
  ('8E1A7F0C-6C2B-4E53-9D8F-1F0B2C3D4E5F','shouting',1,1,0,0,1,1),
  ('9',NULL,1,512,1,0,1,0),
  ('a','broken',0,-5,1,0,1,0),
  ('b/c','slash',1,512,1,0,1,0),
  ('d',' blank',1,512,1,0,1,0);

CREATE TABLE `flavor_infrastructure_link` (
  `flavor_id` varchar(100) NOT NULL,
  `infrastructure_name` varchar(100) NOT NULL,
  PRIMARY KEY (`flavor_id`,`infrastructure_name`)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;

INSERT INTO `flavor_infrastructure_link` VALUES
  ('1','Spain2'),
  ('1','Trento'),
  ('2','Lannion2'),
  ('3','Trento'),
  ('567b200e-0aca-49e0-8e9a-8c1f6ad3abe2','Mordor'),
  ('567b200e-0aca-49e0-8e9a-8c1f6ad3abe2','Spain2'),
  ('6e1a7f0c-6c2b-4e53-9d8f-1f0b2c3d4e5f','Trento'),
  ('7e1a7f0c-6c2b-4e53-9d8f-1f0b2c3d4e5f','Trento'),
  ('8E1A7F0C-6C2B-4E53-9D8F-1F0B2C3D4E5F','Torino'),
  ('a','Trento'),
  ('gone','Trento');
